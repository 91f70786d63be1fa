//! Compiles `proto/` with protox: no protoc on the machine.

use std::path::Path;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let root = Path::new("../../proto");
    println!("cargo:rerun-if-changed={}", root.display());
    let files = [
        "host", "identity", "job", "lease", "link", "record", "screen",
    ]
    .map(|name| root.join(format!("robotd/link/v1/{name}.proto")));
    let set = protox::compile(files, [root])?;
    let service = std::env::var_os("CARGO_FEATURE_SERVICE").is_some();
    tonic_prost_build::configure()
        .build_client(service)
        .build_server(service)
        // No generated `connect`: it would hide the rpc of that name, and we connect by ourselves.
        .build_transport(false)
        // Payloads are slices of the received buffer, not copies of it.
        .bytes(".")
        .compile_fds(set)?;
    Ok(())
}
