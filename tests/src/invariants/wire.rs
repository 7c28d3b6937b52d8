//! A call to an agent as it is on the wire, decoded as far as invariants speak of it. A method that is not known here
//! is still held to carry its sender, which every request has in field 1 (I9).

use containarium_coordinator::Call;
use containarium_proto::v1;
use prost::Message as _;

use super::rows::At;

/// gRPC puts the length before a message.
const PREFIX: usize = 5;

/// What it says.
#[derive(Debug, Clone, PartialEq)]
pub enum Message {
    /// An order.
    Apply(Box<v1::ApplyRequest>),
    /// The accounts.
    SyncAccess(v1::SyncAccessRequest),
    /// About one container, with the generation that it must be at if that is said.
    About {
        /// Container.
        id: String,
        /// 0: not said.
        generation: u64,
    },
    /// Nothing that is not the node's own.
    Other,
}

/// A call on its way.
#[derive(Debug, Clone, PartialEq)]
pub struct Sent {
    /// Whose agent.
    pub node: String,
    /// "Apply"
    pub method: String,
    /// Decoded.
    pub message: Message,
    /// Who sends it; None: it does not say.
    pub sender: Option<v1::Sender>,
}

impl Sent {
    /// Reads a call.
    ///
    /// # Panics
    /// It is not what its method says.
    #[must_use]
    pub fn read(call: Call<'_>) -> Self {
        let bytes = call.frame.get(PREFIX..).unwrap_or_default();
        let message = match call.method {
            "Apply" => Message::Apply(Box::new(v1::ApplyRequest::decode(bytes).expect("an order"))),
            "SyncAccess" => Message::SyncAccess(v1::SyncAccessRequest::decode(bytes).expect("accounts")),
            "OfferCopy" => {
                let request = v1::OfferCopyRequest::decode(bytes).expect("a request for a copy");
                Message::About { id: request.container_id, generation: request.generation }
            }
            "ReceiveCopy" => {
                let request = v1::ReceiveCopyRequest::decode(bytes).expect("an offer of a copy");
                Message::About { id: request.container_id, generation: request.generation }
            }
            "WithdrawCopy" => {
                let request = v1::WithdrawCopyRequest::decode(bytes).expect("a withdrawal");
                Message::About { id: request.container_id, generation: 0 }
            }
            _ => Message::Other,
        };
        let sender = v1::ListForeignRequest::decode(bytes).ok().and_then(|request| request.sender);
        Self { node: call.node.to_owned(), method: call.method.to_owned(), message, sender }
    }

    /// Fleet and term.
    #[must_use]
    pub fn sender(&self) -> Option<(String, u64)> {
        self.sender.as_ref().map(|sender| (sender.fleet_id.clone(), sender.term))
    }

    /// Which order it is about, if it is about one.
    #[must_use]
    pub fn order(&self) -> Option<(At, u64)> {
        let (id, generation) = match &self.message {
            Message::Apply(order) => (&order.container_id, order.generation),
            Message::About { id, generation } if *generation > 0 => (id, *generation),
            Message::About { .. } | Message::SyncAccess(_) | Message::Other => return None,
        };
        Some(((id.clone(), self.node.clone()), generation))
    }

    /// What must not change under one generation.
    #[must_use]
    pub fn content(&self) -> Vec<u8> {
        let Message::Apply(order) = &self.message else { return Vec::new() };
        let order = v1::ApplyRequest { sender: None, must_exist: false, licence: None, ..(**order).clone() };
        order.encode_to_vec()
    }
}
