use std::os::unix::fs::PermissionsExt;

use super::*;

fn options(dir: &Path) -> GenerateOptions {
    GenerateOptions {
        output_dir: dir.join("certs"),
        server_ips: vec!["127.0.0.1".parse().unwrap()],
        server_names: vec!["fleet.example".into()],
        nodes: vec!["jump-1".parse().unwrap()],
        days: 30,
    }
}

fn role_in(path: &Path) -> Option<Role> {
    let (_, pem) = x509_parser::pem::parse_x509_pem(&fs::read(path).unwrap()).map(|(r, p)| (r.len(), p)).unwrap();
    role_of(&pem.contents)
}

#[test]
fn makes_private_files_with_roles() {
    let dir = tempfile::tempdir().unwrap();
    let made = generate(&options(dir.path())).unwrap().made;
    assert_eq!(made.len(), 4);
    let certs = dir.path().join("certs");
    for entry in fs::read_dir(&certs).unwrap() {
        let path = entry.unwrap().path();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600, "{}", path.display());
    }
    assert_eq!(role_in(&certs.join("server.crt")), Some(Role::Coordinator));
    assert_eq!(role_in(&certs.join("client.crt")), Some(Role::Client));
    assert_eq!(role_in(&certs.join("agent-jump-1.crt")), Some(Role::Agent));
    assert_eq!(role_in(&certs.join("ca.crt")), None);
}

#[test]
fn run_again_it_adds_a_node_and_touches_nothing_else() {
    let dir = tempfile::tempdir().unwrap();
    let mut options = options(dir.path());
    generate(&options).unwrap();
    let before = fs::read(dir.path().join("certs/ca.key")).unwrap();
    options.nodes.push("jump-2".parse().unwrap());
    let again = generate(&options).unwrap();
    assert_eq!(again.made, [dir.path().join("certs/agent-jump-2")]);
    assert_eq!(again.kept.len(), 4);
    assert_eq!(fs::read(dir.path().join("certs/ca.key")).unwrap(), before);
}

#[test]
fn half_a_pair_is_refused() {
    let dir = tempfile::tempdir().unwrap();
    let options = options(dir.path());
    generate(&options).unwrap();
    fs::remove_file(dir.path().join("certs/client.key")).unwrap();
    assert!(generate(&options).unwrap_err().to_string().contains("client.key is missing"));
}

#[test]
fn an_expired_certificate_is_named_with_its_dates() {
    let dir = tempfile::tempdir().unwrap();
    let options = GenerateOptions { days: -1, ..options(dir.path()) };
    generate(&options).unwrap();
    let error = CertsDir::new(&options.output_dir).client_to_coordinator().unwrap_err();
    assert!(matches!(error, PkiError::Expired { .. }), "{error}");
    assert!(error.to_string().contains("client.crt is valid only from"), "{error}");
}
