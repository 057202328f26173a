//! `wardline health`

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::time::Duration;

use super::Failed;

const PATIENCE: Duration = Duration::from_secs(3);

pub(super) fn run(admin: SocketAddr) -> Result<(), Failed> {
    let answer = ask(admin).map_err(|error| Failed::Ran(format!("no gateway answers at {admin}: {error}")))?;
    if answer.starts_with("HTTP/1.1 200") {
        return Ok(());
    }
    let status = answer.lines().next().unwrap_or_default().to_owned();
    Err(Failed::Ran(format!("the gateway at {admin} answers `{status}`")))
}

fn ask(admin: SocketAddr) -> std::io::Result<String> {
    let mut stream = TcpStream::connect_timeout(&admin, PATIENCE)?;
    stream.set_read_timeout(Some(PATIENCE))?;
    stream.set_write_timeout(Some(PATIENCE))?;
    stream.write_all(b"GET /healthz HTTP/1.1\r\nhost: wardline\r\nconnection: close\r\n\r\n")?;
    let mut answer = String::new();
    stream.take(4096).read_to_string(&mut answer)?;
    Ok(answer)
}
