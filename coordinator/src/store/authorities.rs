//! The keys that sign host certificates. They live here and not in a file, so that whichever coordinator leads has them,
//! and a restored database signs as before. A private one is read only to sign.

use std::{fmt, str::FromStr};

use containarium_proto::identity::{Authority, AuthorityKey};
use sqlx::AnyConnection;

use super::{
    EventKind, Reader, StoreError, WriteTx, failed,
    rows::{parsed, text},
};

/// What a key is for at the moment.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub(crate) enum AuthorityState {
    /// Signs.
    Active,
    /// Will sign, when everybody trusts it.
    Next,
    /// Has signed, until every host has a certificate of the active one.
    Last,
}

impl AuthorityState {
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Active => "active",
            Self::Next => "next",
            Self::Last => "last",
        }
    }
}

impl fmt::Display for AuthorityState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for AuthorityState {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let all = [Self::Active, Self::Next, Self::Last];
        all.into_iter().find(|state| state.as_str() == text).ok_or_else(|| format!("'{text}', which is no state"))
    }
}

/// The public half of a key, and what it is for.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct AuthorityRow {
    pub(crate) key: AuthorityKey,
    pub(crate) state: AuthorityState,
}

impl<C: std::ops::DerefMut<Target = AnyConnection> + Send> Reader<C> {
    /// Everything that people must trust, the one that signs first. Empty only before the first reign.
    pub(crate) async fn authorities(&mut self) -> Result<Vec<AuthorityRow>, StoreError> {
        let found = sqlx::query("SELECT public_key, state FROM ssh_authority").fetch_all(self.connection()).await;
        let found = found.map_err(failed("reading the ssh authorities"))?;
        let row = |row| Ok(AuthorityRow { key: parsed(row, "public_key")?, state: parsed(row, "state")? });
        let mut rows = found.iter().map(row).collect::<Result<Vec<AuthorityRow>, StoreError>>()?;
        rows.sort_by_key(|row| row.state);
        Ok(rows)
    }

    /// The one that signs, with its private half.
    pub(crate) async fn signing_authority(&mut self) -> Result<Option<Authority>, StoreError> {
        let found = sqlx::query("SELECT private_key FROM ssh_authority WHERE state = 'active'");
        let found = found.fetch_optional(self.connection()).await.map_err(failed("reading the ssh authority"))?;
        let Some(row) = found else { return Ok(None) };
        // Never the text itself, not even in an error.
        let authority = Authority::from_text(&text(&row, "private_key")?);
        authority.map(Some).map_err(|error| StoreError::Corrupt { column: "private_key", problem: error.to_string() })
    }
}

impl WriteTx {
    /// Makes the first authority of a fleet that has none: a new one, and one of before there were any.
    pub(crate) async fn ensure_authority(&mut self) -> Result<(), StoreError> {
        if self.reader().authorities().await?.iter().any(|row| row.state == AuthorityState::Active) {
            return Ok(());
        }
        let fingerprint = self.insert_authority(AuthorityState::Active).await?;
        self.note("", EventKind::FleetAuthority, &format!("host certificates are signed by {fingerprint}")).await
    }

    /// A new key; gives its fingerprint.
    pub(crate) async fn insert_authority(&mut self, state: AuthorityState) -> Result<String, StoreError> {
        let authority = Authority::generate();
        let kept = authority.to_text();
        let kept = kept.map_err(|error| StoreError::Corrupt { column: "private_key", problem: error.to_string() })?;
        let public = authority.public();
        let sql = "INSERT INTO ssh_authority (fingerprint, public_key, private_key, state, created_at) \
                   VALUES ($1, $2, $3, $4, $5)";
        let insert = sqlx::query(sql)
            .bind(public.fingerprint())
            .bind(public.to_string())
            .bind(kept.as_str())
            .bind(state.as_str())
            .bind(chrono::Utc::now().timestamp_millis());
        insert.execute(self.connection()).await.map_err(failed("keeping an ssh authority"))?;
        Ok(public.fingerprint())
    }

    /// The one of a state, if there is one, is for something else from now on; `None`: it is forgotten.
    pub(crate) async fn turn_authority(
        &mut self,
        from: AuthorityState,
        to: Option<AuthorityState>,
    ) -> Result<(), StoreError> {
        let change = match to {
            Some(to) => sqlx::query("UPDATE ssh_authority SET state = $2 WHERE state = $1")
                .bind(from.as_str())
                .bind(to.as_str()),
            None => sqlx::query("DELETE FROM ssh_authority WHERE state = $1").bind(from.as_str()),
        };
        change.execute(self.connection()).await.map(drop).map_err(failed("changing an ssh authority"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        database::DatabaseUrl,
        store::{Store, testing::claim},
    };

    #[tokio::test]
    async fn a_fleet_gets_one_authority_and_keeps_it_and_its_signature() {
        let dir = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&dir.path().join("fleet.db"));
        let store = Store::open(&url).await.unwrap();
        let mut kept = None;
        for holder in ["first", "second"] {
            let fence = store.take_lease(&claim(holder)).await.unwrap();
            let mut tx = store.write(&fence).await.unwrap();
            tx.ensure_authority().await.unwrap();
            tx.commit().await.unwrap();
            let mut reader = store.reader().await.unwrap();
            let rows = reader.authorities().await.unwrap();
            assert_eq!(rows.iter().map(|row| row.state).collect::<Vec<_>>(), [AuthorityState::Active]);
            assert_eq!(reader.signing_authority().await.unwrap().unwrap().public(), rows[0].key);
            assert_eq!(*kept.get_or_insert(rows[0].key.clone()), rows[0].key);
            let events = reader.events("", 10).await.unwrap();
            assert_eq!(events.iter().filter(|event| event.kind == "fleet.ssh-authority").count(), 1);
            assert!(events.iter().all(|event| !event.message.contains("PRIVATE")));
        }
    }

    #[tokio::test]
    async fn a_change_of_authority_never_leaves_two_that_sign() {
        use AuthorityState::{Active, Last, Next};
        let dir = tempfile::tempdir().unwrap();
        let url = DatabaseUrl::sqlite(&dir.path().join("fleet.db"));
        let store = Store::open(&url).await.unwrap();
        let fence = store.take_lease(&claim("one")).await.unwrap();
        let mut tx = store.write(&fence).await.unwrap();
        tx.ensure_authority().await.unwrap();
        assert!(tx.reader().authorities().await.unwrap().len() == 1);
        tx.insert_authority(Next).await.unwrap();
        tx.turn_authority(Active, Some(Last)).await.unwrap();
        tx.turn_authority(Next, Some(Active)).await.unwrap();
        let states: Vec<_> = tx.reader().authorities().await.unwrap().iter().map(|row| row.state).collect();
        assert_eq!(states, [Active, Last]);
        tx.turn_authority(Last, None).await.unwrap();
        assert_eq!(tx.reader().authorities().await.unwrap().len(), 1);
        assert!(tx.insert_authority(Active).await.is_err(), "there is one");
    }
}
