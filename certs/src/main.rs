//! `headgate-certs`: writes a development authority, a server and a client certificate into a folder.

use std::io::Write;
use std::path::PathBuf;

use clap::Parser;
use headgate_certs::{Request, make, write};
use headgate_schemas::time;

/// Makes certificates for development and tests: an authority, a server and a client certificate.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Folder for the files; made when it is not there
    #[arg(default_value = "certs")]
    folder: PathBuf,
    /// Host name or address of the server; may be given several times
    #[arg(long = "name", value_name = "NAME", default_values = ["localhost", "127.0.0.1", "::1"])]
    names: Vec<String>,
    /// Name in the client certificate
    #[arg(long, value_name = "NAME", default_value = "headgate client")]
    client: String,
    /// Days until everything expires
    #[arg(long, default_value_t = 90, value_parser = clap::value_parser!(u32).range(1..=3650))]
    days: u32,
    /// Replace files that are there
    #[arg(long)]
    force: bool,
}

fn main() -> anyhow::Result<()> {
    let Arguments { folder, names, client, days, force } = Arguments::parse();
    let bundle = make(&Request { server_names: names, client_name: client, days }, time::now())?;
    let mut out = std::io::stdout().lock();
    for path in write(&bundle, &folder, force)? {
        writeln!(out, "{}", path.display())?;
    }
    Ok(())
}
