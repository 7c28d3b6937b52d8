//! Compiles the contract with protox: no protoc binary is needed to build.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = [
        "types.proto",
        "snapshots.proto",
        "replicas.proto",
        "backups.proto",
        "image_import.proto",
        "policy.proto",
        "identity.proto",
        "share.proto",
        "audit.proto",
        "agent.proto",
        "fleet.proto",
    ]
    .map(|f| format!("containarium/v1/{f}"));
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    // Maps in one order: requests are hashed, and what is printed looks the same each time.
    tonic_prost_build::configure().btree_map(".").compile_fds(descriptors)?;
    Ok(())
}
