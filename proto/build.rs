//! Compiles the contract with protox: no protoc binary is needed to build.

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let files = ["types.proto", "agent.proto", "fleet.proto"].map(|f| format!("containarium/v1/{f}"));
    println!("cargo:rerun-if-changed=proto");
    let descriptors = protox::compile(files, ["proto"])?;
    tonic_prost_build::configure().compile_fds(descriptors)?;
    Ok(())
}
