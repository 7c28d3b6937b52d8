//! Makes the CA and the certificates of a fleet. Keeps what is there: run again, it adds what is missing, and never
//! writes over a key.

use std::{
    fs::{DirBuilder, OpenOptions, Permissions},
    io::Write,
    net::IpAddr,
    os::unix::fs::{DirBuilderExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rcgen::{
    BasicConstraints, CertificateParams, DnType, ExtendedKeyUsagePurpose, IsCa, Issuer, KeyPair, KeyUsagePurpose,
    SanType,
};
use time::{Duration, OffsetDateTime};

use super::{PkiError, Role, agent_stem, read};
use crate::names::NodeName;

/// The CA outlives every certificate it signs; replacing it means touching every machine.
const CA_DAYS: i64 = 3650;
/// Clocks of new cloud machines may be behind by minutes.
const BACKDATE: Duration = Duration::hours(1);

/// What to make.
#[derive(Debug, Clone)]
pub struct GenerateOptions {
    /// Where; made with mode 0700 if missing.
    pub output_dir: PathBuf,
    /// Addresses at which the CLI dials the coordinator.
    pub server_ips: Vec<IpAddr>,
    /// Host names at which the CLI dials the coordinator.
    pub server_names: Vec<String>,
    /// Jump servers that get a certificate.
    pub nodes: Vec<NodeName>,
    /// Validity of everything but the CA. 0 or less makes certificates that have expired, for drills.
    pub days: i64,
}

/// What was done to each pair, in order.
#[derive(Debug, PartialEq, Eq)]
pub struct Generated {
    /// Pairs (without `.crt`/`.key`) that were made.
    pub made: Vec<PathBuf>,
    /// Pairs that were there and were left alone.
    pub kept: Vec<PathBuf>,
}

/// Makes `ca`, `server`, `client` and one `agent-<node>` pair per node, `.crt` and `.key`, all 0600.
///
/// # Errors
/// A file that cannot be written; half a pair that was found; an existing CA that cannot be read.
pub fn generate(options: &GenerateOptions) -> Result<Generated, PkiError> {
    let dir = &options.output_dir;
    DirBuilder::new().recursive(true).mode(0o700).create(dir).map_err(|e| file("creating", dir, e))?;
    let mut done = Generated { made: Vec::new(), kept: Vec::new() };

    if note(&mut done, dir.join("ca"))? {
        make_ca(dir)?;
    }
    let issuer = load_ca(dir)?;

    let mut server_names: Vec<SanType> = options.server_ips.iter().copied().map(SanType::IpAddress).collect();
    for name in &options.server_names {
        server_names.push(dns("server", name)?);
    }
    let mut wanted =
        vec![("server".to_owned(), Role::Coordinator, server_names), ("client".to_owned(), Role::Client, Vec::new())];
    for node in &options.nodes {
        wanted.push((agent_stem(node), Role::Agent, vec![dns("agent", node.as_str())?]));
    }
    for (stem, role, names) in wanted {
        if note(&mut done, dir.join(&stem))? {
            make_leaf(dir, &stem, role, names, options.days, &issuer)?;
        }
    }
    Ok(done)
}

/// Whether the pair has to be made. Half a pair is a person's mistake that we must not write over.
fn note(done: &mut Generated, pair: PathBuf) -> Result<bool, PkiError> {
    let (cert, key) = (pair.with_added_extension("crt"), pair.with_added_extension("key"));
    match (cert.exists(), key.exists()) {
        (true, true) => done.kept.push(pair),
        (false, false) => {
            done.made.push(pair);
            return Ok(true);
        }
        (true, false) => return Err(half(&cert, &key)),
        (false, true) => return Err(half(&key, &cert)),
    }
    Ok(false)
}

fn half(there: &Path, missing: &Path) -> PkiError {
    let problem = format!("{} is missing beside it: restore it, or remove both", missing.display());
    PkiError::Content { path: there.to_owned(), problem }
}

fn make_ca(dir: &Path) -> Result<(), PkiError> {
    let fail = |source| PkiError::Make { what: "the CA".into(), source };
    let key = KeyPair::generate().map_err(fail)?;
    let mut params = dated("containarium fleet CA", CA_DAYS);
    params.is_ca = IsCa::Ca(BasicConstraints::Constrained(0));
    params.key_usages = vec![KeyUsagePurpose::KeyCertSign, KeyUsagePurpose::CrlSign];
    let cert = params.self_signed(&key).map_err(fail)?;
    write_pair(dir, "ca", &cert.pem(), &key.serialize_pem())
}

fn load_ca(dir: &Path) -> Result<Issuer<'static, KeyPair>, PkiError> {
    let (cert, key) = (dir.join("ca.crt"), dir.join("ca.key"));
    let text = |path: &Path| {
        String::from_utf8(read(path)?).map_err(|e| PkiError::Content { path: path.to_owned(), problem: e.to_string() })
    };
    let content =
        |path: &Path, error: rcgen::Error| PkiError::Content { path: path.to_owned(), problem: error.to_string() };
    let key_pair = KeyPair::from_pem(&text(&key)?).map_err(|e| content(&key, e))?;
    Issuer::from_ca_cert_pem(&text(&cert)?, key_pair).map_err(|e| content(&cert, e))
}

fn make_leaf(
    dir: &Path,
    stem: &str,
    role: Role,
    names: Vec<SanType>,
    days: i64,
    issuer: &Issuer<'_, KeyPair>,
) -> Result<(), PkiError> {
    let fail = |source| PkiError::Make { what: stem.to_owned(), source };
    let key = KeyPair::generate().map_err(fail)?;
    let mut params = dated(stem, days);
    params.subject_alt_names = names;
    params.subject_alt_names.push(SanType::URI(role.uri().try_into().map_err(fail)?));
    params.key_usages = vec![KeyUsagePurpose::DigitalSignature];
    params.use_authority_key_identifier_extension = true;
    params.extended_key_usages = match role {
        // Serves the CLI and dials the agents.
        Role::Coordinator => vec![ExtendedKeyUsagePurpose::ServerAuth, ExtendedKeyUsagePurpose::ClientAuth],
        Role::Client => vec![ExtendedKeyUsagePurpose::ClientAuth],
        Role::Agent => vec![ExtendedKeyUsagePurpose::ServerAuth],
    };
    let cert = params.signed_by(&key, issuer).map_err(fail)?;
    write_pair(dir, stem, &cert.pem(), &key.serialize_pem())
}

fn dated(common_name: &str, days: i64) -> CertificateParams {
    let mut params = CertificateParams::default();
    let now = OffsetDateTime::now_utc();
    params.not_before = now - BACKDATE + Duration::days(days.min(0));
    params.not_after = now + Duration::days(days);
    params.distinguished_name.push(DnType::CommonName, common_name);
    params
}

fn dns(what: &str, name: &str) -> Result<SanType, PkiError> {
    let name = name.try_into().map_err(|source| PkiError::Make { what: format!("{what} '{name}'"), source })?;
    Ok(SanType::DnsName(name))
}

/// Key first: a certificate without its key is no use, and both are complete before they have their names.
fn write_pair(dir: &Path, stem: &str, cert: &str, key: &str) -> Result<(), PkiError> {
    for (extension, text) in [("key", key), ("crt", cert)] {
        let path = dir.join(format!("{stem}.{extension}"));
        let temporary = dir.join(format!(".{stem}.{extension}.new"));
        let write = || -> std::io::Result<()> {
            let mut out = OpenOptions::new().write(true).create(true).truncate(true).mode(0o600).open(&temporary)?;
            out.set_permissions(Permissions::from_mode(0o600))?;
            out.write_all(text.as_bytes())?;
            out.sync_all()?;
            std::fs::rename(&temporary, &path)
        };
        write().map_err(|e| file("writing", &path, e))?;
    }
    Ok(())
}

fn file(action: &'static str, path: &Path, source: std::io::Error) -> PkiError {
    PkiError::File { action, path: path.to_owned(), source }
}
