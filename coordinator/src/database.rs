//! Which database: an address that is checked as far as that goes without dialling, and never shown with its password.

use std::{fmt, net::IpAddr, path::Path, str::FromStr};

use url::Url;

/// Address of the fleet's database.
#[derive(Clone, PartialEq, Eq)]
pub struct DatabaseUrl(Url);

/// Why an address is none. Holds nothing of the address itself: it may have a password in it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, thiserror::Error)]
pub enum DatabaseUrlError {
    /// No URL at all.
    #[error("not a database address: give sqlite://PATH?mode=rwc or postgres://USER@HOST/DATABASE?sslmode=verify-full")]
    Form,
    /// Another kind of database.
    #[error("only sqlite:// and postgres:// databases can hold a fleet")]
    Scheme,
    /// Postgres without the name of a database.
    #[error("which database on that server? give postgres://USER@HOST/DATABASE")]
    Database,
    /// Another machine, and not a word about TLS.
    #[error(
        "a postgres:// address of another machine must say how far it is trusted: add \
         ?sslmode=verify-full&sslrootcert=FILE, or ?sslmode=disable on a network that is private"
    )]
    Tls,
}

impl DatabaseUrl {
    /// A file in a folder of ours.
    #[must_use]
    pub fn sqlite(path: &Path) -> Self {
        // The path stands in a URL, where these would mean something else.
        let path = path.to_string_lossy().replace('%', "%25").replace('?', "%3F").replace('#', "%23");
        Self(format!("sqlite://{path}?mode=rwc").parse().expect("an escaped path in a URL"))
    }

    /// Whether several coordinators can share it.
    #[must_use]
    pub fn is_postgres(&self) -> bool {
        matches!(self.0.scheme(), "postgres" | "postgresql")
    }

    /// Whether it holds a password: then it does not belong on a command line.
    #[must_use]
    pub fn has_password(&self) -> bool {
        self.0.password().is_some() || self.0.query_pairs().any(|(key, _)| key == "password")
    }

    pub(crate) fn as_str(&self) -> &str {
        self.0.as_str()
    }
}

/// A socket, or an address that does not leave the machine.
fn is_local(url: &Url) -> bool {
    let named = url.query_pairs().filter(|(key, _)| key == "host" || key == "hostaddr").last();
    let host = named.map_or_else(|| url.host_str().unwrap_or("").to_owned(), |(_, host)| host.into_owned());
    let host = host.trim_start_matches('[').trim_end_matches(']');
    let socket = host.is_empty() || host.starts_with('/') || host.to_ascii_lowercase().starts_with("%2f");
    socket || host == "localhost" || host.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl FromStr for DatabaseUrl {
    type Err = DatabaseUrlError;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let url: Url = text.trim().parse().map_err(|_| DatabaseUrlError::Form)?;
        match url.scheme() {
            "sqlite" => return Ok(Self(url)),
            "postgres" | "postgresql" => {}
            _ => return Err(DatabaseUrlError::Scheme),
        }
        let says = |words: &[&str]| url.query_pairs().any(|(key, _)| words.contains(&&*key));
        if url.path().trim_start_matches('/').is_empty() && !says(&["dbname"]) {
            return Err(DatabaseUrlError::Database);
        }
        if !is_local(&url) && !says(&["sslmode", "ssl-mode"]) {
            return Err(DatabaseUrlError::Tls);
        }
        Ok(Self(url))
    }
}

/// Without user, password and options.
impl fmt::Display for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let port = self.0.port().map(|port| format!(":{port}")).unwrap_or_default();
        write!(f, "{}://{}{port}{}", self.0.scheme(), self.0.host_str().unwrap_or(""), self.0.path())
    }
}

impl fmt::Debug for DatabaseUrl {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<DatabaseUrl, DatabaseUrlError> {
        text.parse()
    }

    #[test]
    fn another_machine_is_reached_only_as_the_operator_says() {
        for good in [
            "postgres://fleet@db.example/fleet?sslmode=verify-full&sslrootcert=/etc/ca.crt",
            "postgresql://fleet@10.0.0.9:5433/fleet?sslmode=disable",
            "postgres://fleet@localhost/fleet",
            "postgres://fleet@[::1]/fleet",
            "postgres://fleet@%2Fvar%2Frun%2Fpostgresql/fleet",
            "postgres:///fleet?host=/run/postgresql&user=fleet",
            "sqlite:///var/lib/fleet.db?mode=rwc",
        ] {
            assert!(parse(good).is_ok(), "{good}");
        }
        assert_eq!(parse("postgres://fleet@db.example/fleet"), Err(DatabaseUrlError::Tls));
        assert_eq!(parse("postgres://fleet@127.0.0.1/x?host=db.example"), Err(DatabaseUrlError::Tls));
        assert_eq!(parse("postgres://fleet@localhost/"), Err(DatabaseUrlError::Database));
        assert_eq!(parse("mysql://fleet@localhost/fleet"), Err(DatabaseUrlError::Scheme));
        assert_eq!(parse("/var/lib/fleet.db"), Err(DatabaseUrlError::Form));
    }

    #[test]
    fn a_password_is_noticed_and_never_shown() {
        for secret in ["postgres://fleet:hush@localhost:5433/fleet", "postgres://fleet@localhost/fleet?password=hush"] {
            let url = parse(secret).unwrap();
            assert!(url.has_password());
            assert!(!format!("{url} {url:?}").contains("hush"), "{url}");
        }
        assert!(!parse("postgres://fleet@localhost/fleet").unwrap().has_password());
        assert_eq!(
            parse("postgres://u:p@localhost:5433/fleet").unwrap().to_string(),
            "postgres://localhost:5433/fleet"
        );
    }

    #[test]
    fn a_path_with_signs_of_urls_stays_that_path() {
        let url = DatabaseUrl::sqlite(Path::new("/a?b#c%d/fleet.db"));
        assert_eq!(url.as_str(), "sqlite:///a%3Fb%23c%25d/fleet.db?mode=rwc");
        assert!(!url.is_postgres());
    }
}
