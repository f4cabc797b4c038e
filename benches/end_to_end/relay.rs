//! The least that a gateway can do: bytes from one socket to another, without looking at them.
//!
//! A gateway moves each byte once more than a client that talks to the store itself. What that costs on a machine where
//! client, gateway and store take turns on the same cores, the direct client shows when it goes through here.

use std::io::{self, Read, Write};
use std::net::{Shutdown, SocketAddr, TcpListener, TcpStream};

/// Bytes per read(2) and write(2).
const CHUNK: usize = 256 * 1024;

/// Serves until standard input ends, with a port of its own before `store`.
pub fn run(store: SocketAddr) -> io::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0")?;
    println!("{}", listener.local_addr()?.port());
    std::thread::spawn(move || {
        for client in listener.incoming().map_while(Result::ok) {
            // a connection that fails is the direct client's to report
            let _ = connect(client, store);
        }
    });
    io::copy(&mut io::stdin().lock(), &mut io::sink()).map(drop)
}

fn connect(client: TcpStream, store: SocketAddr) -> io::Result<()> {
    let store = TcpStream::connect(store)?;
    client.set_nodelay(true)?;
    store.set_nodelay(true)?;
    let back = (store.try_clone()?, client.try_clone()?);
    std::thread::spawn(move || pass(client, store));
    std::thread::spawn(move || pass(back.0, back.1));
    Ok(())
}

/// `io::copy` would splice, which no gateway can do that counts, hashes or encrypts what it moves.
fn pass(mut from: TcpStream, mut to: TcpStream) {
    let mut chunk = vec![0; CHUNK];
    while let Ok(bytes @ 1..) = from.read(&mut chunk) {
        if to.write_all(&chunk[..bytes]).is_err() {
            break;
        }
    }
    let _ = to.shutdown(Shutdown::Write);
}
