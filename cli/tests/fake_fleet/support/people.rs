//! What the fake coordinator knows of people: what a test says, and what it was asked.

use containarium_proto::v1;

#[derive(Default)]
pub(crate) struct People {
    pub(crate) shares: Vec<v1::ShareContainerRequest>,
    pub(crate) connected: Vec<v1::Session>,
    pub(crate) unasked: Vec<v1::Unasked>,
    pub(crate) kills: Vec<v1::KillSessionsRequest>,
    pub(crate) events: Vec<v1::AuditEvent>,
    pub(crate) audits: Vec<v1::ListAuditRequest>,
    pub(crate) unbans: Vec<v1::UnbanAddressRequest>,
    pub(crate) banned: Vec<String>,
}

impl People {
    pub(super) fn share(&mut self, request: v1::ShareContainerRequest) -> v1::Progress {
        let share = v1::Share {
            owner: request.user.clone(),
            container: format!("{}-container", request.user),
            with: request.with.clone(),
            sudo: request.sudo,
        };
        let shares = if request.revoke { Vec::new() } else { vec![share] };
        self.shares.push(request);
        v1::Progress { container: Some(v1::Container { shares, ..Default::default() }), ..Default::default() }
    }

    pub(super) fn sessions(&self, asked: &v1::ListSessionsRequest) -> v1::ListSessionsResponse {
        let wanted = |s: &&v1::Session| asked.user.is_empty() || s.user == asked.user;
        v1::ListSessionsResponse {
            sessions: self.connected.iter().filter(wanted).cloned().collect(),
            unasked: self.unasked.clone(),
        }
    }

    pub(super) fn kill(&mut self, request: v1::KillSessionsRequest) -> v1::KillSessionsResponse {
        let meant = |s: &v1::Session| s.user == request.user || s.id == request.id;
        let ended = self.connected.extract_if(.., |s| meant(s)).collect();
        self.kills.push(request);
        v1::KillSessionsResponse { ended, unasked: self.unasked.clone() }
    }

    /// Two in one answer.
    pub(super) fn audit(&mut self, request: v1::ListAuditRequest) -> v1::ListAuditResponse {
        let from: usize = request.page_token.parse().unwrap_or_default();
        let kinds = request.kinds.clone();
        self.audits.push(request);
        let wanted = |event: &&v1::AuditEvent| kinds.is_empty() || kinds.contains(&event.kind);
        let all: Vec<_> = self.events.iter().filter(wanted).cloned().collect();
        let to = (from + 2).min(all.len());
        let next_page_token = if to < all.len() { to.to_string() } else { String::new() };
        v1::ListAuditResponse { events: all[from..to].to_vec(), next_page_token }
    }

    pub(super) fn security(&self) -> v1::GetSecurityResponse {
        let bans = v1::Bans { guarded: true, addresses: self.banned.clone(), problem: String::new() };
        let node = v1::NodeSecurity { node: "jump-1".into(), bans: Some(bans), note: String::new() };
        let away = v1::NodeSecurity { node: "jump-2".into(), bans: None, note: "is offline".into() };
        v1::GetSecurityResponse {
            sessions: self.connected.clone(),
            nodes: vec![node, away],
            accepted: 7,
            failed: 3,
            users_today: vec!["alice".into(), "bob".into()],
            recent_accepted: Vec::new(),
            recent_failed: self.events.clone(),
        }
    }

    pub(super) fn unban(&mut self, request: v1::UnbanAddressRequest) -> v1::UnbanAddressResponse {
        self.unbans.push(request);
        v1::UnbanAddressResponse { unbanned: vec!["jump-1".into()], unasked: self.unasked.clone() }
    }
}
