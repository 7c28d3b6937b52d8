//! What went wrong, as one line, a hint and an exit code: docs/exit-codes.md. Reads refusals of the coordinator, broken
//! links and TLS failures; must never print a key or a certificate.

use std::{error::Error, fmt::Write as _, io};

use containarium_proto::{
    error::{Reason, Refusal},
    pki::PkiError,
};
use tonic::{Code, Status};

/// Wrong usage or a value that could never be right.
pub(crate) const USAGE: u8 = 2;
/// The coordinator cannot be reached, or did not answer in time.
pub(crate) const UNREACHABLE: u8 = 6;
/// No certificate, an expired one, one of another fleet, or one with another role.
pub(crate) const CERTIFICATE: u8 = 7;
/// It would do harm as things stand.
pub(crate) const REFUSED: u8 = 9;

/// A program that we would become is not there, as a shell says it.
pub(crate) const NO_PROGRAM: u8 = 127;

/// Ends a command.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Failure {
    code: u8,
    message: String,
    hint: Option<String>,
}

impl Failure {
    pub(crate) fn new(code: u8, message: impl Into<String>) -> Self {
        Self { code, message: message.into(), hint: None }
    }

    pub(crate) fn usage(message: impl Into<String>) -> Self {
        Self::new(USAGE, message)
    }

    #[must_use]
    pub(crate) fn hint(self, hint: impl Into<String>) -> Self {
        Self { hint: Some(hint.into()), ..self }
    }

    pub(crate) fn message(&self) -> &str {
        &self.message
    }

    pub(crate) fn code(&self) -> u8 {
        self.code
    }

    /// Prints it and gives the exit code. A closed standard error leaves only the code.
    pub(crate) fn report(&self) -> u8 {
        let mut text = format!("error: {}\n", one_line(&self.message));
        if let Some(hint) = &self.hint {
            // Writing to a String cannot fail.
            writeln!(text, "hint: {}", one_line(hint)).unwrap_or_default();
        }
        io::Write::write_all(&mut io::stderr(), text.as_bytes()).unwrap_or_default();
        self.code
    }
}

/// Whoever sent it, it stays one line and moves no cursor.
pub(crate) fn one_line(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).collect()
}

impl From<Refusal> for Failure {
    fn from(refusal: Refusal) -> Self {
        let hint = match (refusal.hint, refusal.reason) {
            (None, Reason::WrongRole) => Some("use the client.crt that 'containarium cert generate' made".to_owned()),
            (hint, _) => hint,
        };
        Self { code: refusal.reason.exit_code(), message: refusal.message, hint }
    }
}

impl From<PkiError> for Failure {
    fn from(error: PkiError) -> Self {
        Self::new(CERTIFICATE, chain(&error))
            .hint("--certs-dir or CONTAINARIUM_CERTS_DIR names the folder with ca.crt, client.crt and client.key")
    }
}

impl From<io::Error> for Failure {
    fn from(error: io::Error) -> Self {
        Self::new(Reason::Internal.exit_code(), format!("writing the output: {error}"))
    }
}

/// An error with all its causes, outermost first.
pub(crate) fn chain(error: &dyn Error) -> String {
    let mut text = error.to_string();
    let mut cause = error.source();
    while let Some(error) = cause {
        let inner = error.to_string();
        // Some libraries repeat the cause in their own text.
        if !text.contains(&inner) {
            text = format!("{text}: {inner}");
        }
        cause = error.source();
    }
    text
}

/// Whether nobody was there at all, so that nothing can have been asked for.
pub(crate) fn never_connected(status: &Status) -> bool {
    // A refusal came from somebody, whatever words it uses.
    if Refusal::from_status(status).is_some() {
        return false;
    }
    let text = chain(status);
    // The last is what a connection says that did not come about in time; a call says "Timeout expired".
    let words = ["refused", "dns error", "unreachable", "No such file", "tcp connect", "deadline has elapsed"];
    words.iter().any(|word| text.contains(word))
}

/// A call to `server` that failed.
pub(crate) fn from_status(server: &str, status: &Status) -> Failure {
    if let Some(refusal) = Refusal::from_status(status) {
        return refusal.into();
    }
    let text = chain(status);
    if let Some(failure) = tls(server, &text) {
        return failure;
    }
    match status.code() {
        Code::Unavailable | Code::DeadlineExceeded | Code::Cancelled | Code::Unknown => unreachable(server, &text),
        // What a process that dies leaves of a stream. Whatever a coordinator itself has to say is a refusal.
        Code::Internal if text.contains("h2 protocol error") => unreachable(server, &text),
        // Nobody has begun anything: the call itself is unknown there.
        Code::Unimplemented => {
            let message = format!("the coordinator at {server} is older than this command, and does not know it");
            Failure::new(REFUSED, message).hint("upgrade the coordinator, or use the containarium of its version")
        }
        code => Failure::new(
            Reason::Internal.exit_code(),
            format!("the coordinator at {server} said {code:?}: {}", status.message()),
        ),
    }
}

/// No connection came about.
pub(crate) fn from_transport(server: &str, error: &tonic::transport::Error) -> Failure {
    let text = chain(error);
    tls(server, &text).unwrap_or_else(|| unreachable(server, &text))
}

fn unreachable(server: &str, text: &str) -> Failure {
    let why = [
        "refused",
        "timed out",
        "deadline",
        "Timeout expired",
        "dns",
        "resolve",
        "unreachable",
        "No such file",
        "Permission denied",
    ]
    .into_iter()
    .find(|word| text.contains(word))
    .map_or("no answer", |word| match word {
        "refused" => "connection refused",
        "dns" | "resolve" => "its name cannot be resolved",
        "unreachable" => "no route to it",
        "No such file" => "no such socket",
        "Permission denied" => "only root may use the socket",
        _ => "no answer in time",
    });
    Failure::new(UNREACHABLE, format!("the coordinator at {server} cannot be reached: {why}"))
        .hint("check --server or CONTAINARIUM_SERVER, and that containarium-coordinator runs there")
}

/// TLS says what it dislikes only in words. Ours about the server come first, then the server's about us.
fn tls(server: &str, text: &str) -> Option<Failure> {
    let renew = "make new certificates with 'containarium cert generate' where the fleet's CA is kept";
    let ours = "use the ca.crt and client.crt of the fleet that this coordinator leads";
    let (message, hint) = if text.contains("invalid peer certificate: Expired") {
        (format!("the certificate of the coordinator at {server} has expired"), renew)
    } else if text.contains("NotValidForName") {
        (format!("the certificate of the coordinator is not made for the address {server}"), renew)
    } else if text.contains("UnknownIssuer") || text.contains("BadSignature") {
        (format!("the certificate of the coordinator at {server} is not signed by our ca.crt: another fleet?"), ours)
    } else if text.contains("CertificateExpired") {
        (format!("the coordinator at {server} refused our certificate: it has expired"), renew)
    } else if text.contains("CertificateRequired") {
        (format!("the coordinator at {server} wants a certificate and we have none"), ours)
    } else if [
        "UnknownCA",
        "DecryptError",
        "BadCertificate",
        "CertificateUnknown",
        "AccessDenied",
        "UnsupportedCertificate",
    ]
    .iter()
    .any(|alert| text.contains(alert))
    {
        (format!("the coordinator at {server} refused our certificate: it is not one of this fleet's clients"), ours)
    } else if text.contains("invalid peer certificate") {
        (format!("the certificate of the coordinator at {server} is not acceptable"), ours)
    } else {
        return None;
    };
    Some(Failure::new(CERTIFICATE, message).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn refusals_keep_their_code_message_and_hint() {
        for &reason in Reason::ALL {
            let status = Status::from(Refusal::new(reason, "no room").hint("add a node"));
            let failure = from_status("s", &status);
            assert_eq!(failure, Failure::new(reason.exit_code(), "no room").hint("add a node"));
        }
    }

    #[test]
    fn a_stream_that_was_torn_off_is_nobody_there() {
        let torn = Status::internal("h2 protocol error: error reading a body from connection");
        assert_eq!(from_status("s", &torn).code(), UNREACHABLE);
        assert!(!never_connected(&torn), "it may be done");
        assert_eq!(from_status("s", &Status::internal("a bug")).code(), Reason::Internal.exit_code());
    }

    #[test]
    fn a_coordinator_that_does_not_know_the_call_is_older() {
        let failure = from_status("https://fleet:7443", &Status::unimplemented(""));
        assert_eq!(failure.code(), REFUSED);
        assert!(failure.message.contains("https://fleet:7443 is older"), "{failure:?}");
    }

    #[test]
    fn a_message_from_elsewhere_stays_one_line() {
        assert_eq!(one_line("a\nb\x1b[31m"), "a b [31m");
    }

    #[test]
    fn the_documented_exit_codes_are_the_real_ones() {
        let page = include_str!("../../docs/exit-codes.md");
        for reason in Reason::ALL {
            let row = format!("| {} | `{}` |", reason.exit_code(), reason.as_str());
            assert!(page.contains(&row), "docs/exit-codes.md lacks: {row}");
        }
    }
}
