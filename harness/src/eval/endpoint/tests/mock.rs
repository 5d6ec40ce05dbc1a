//! A server that plays what it is told, one connection a reply, and keeps what it was asked.

use std::io::{Read as _, Write as _};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex};
use std::time::Duration;

/// One reply.
pub(super) enum Reply {
    /// Status, further header lines, body.
    Says(u16, &'static str, String),
    /// Less than its header promises.
    Truncated(String),
    /// A body without an end.
    Endless,
    /// A byte of the body each tenth of a second.
    Slow,
    /// Nothing for a long time.
    Silent,
    /// Closes at once.
    Closes,
    /// This instead of HTTP.
    Raw(&'static str),
}

/// The server; it ends with its replies.
pub(super) struct Mock {
    pub(super) url: String,
    asked: Arc<Mutex<Vec<String>>>,
}

impl Mock {
    pub(super) fn new(replies: Vec<Reply>) -> Mock {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let asked = Arc::new(Mutex::new(Vec::new()));
        let kept = Arc::clone(&asked);
        std::thread::spawn(move || {
            for reply in replies {
                let Ok((mut stream, _)) = listener.accept() else { return };
                let request = request(&mut stream);
                kept.lock().unwrap().push(request);
                // The client may have gone by then.
                let _ = play(&mut stream, reply);
            }
        });
        Mock { url, asked }
    }

    /// The requests so far, each with its header.
    pub(super) fn asked(&self) -> Vec<String> {
        self.asked.lock().unwrap().clone()
    }
}

fn request(stream: &mut TcpStream) -> String {
    let (mut text, mut byte) = (Vec::new(), [0]);
    while !text.ends_with(b"\r\n\r\n") && stream.read(&mut byte).is_ok_and(|read| read == 1) {
        text.push(byte[0]);
    }
    let header = String::from_utf8(text).unwrap();
    let length =
        header.lines().find_map(|line| line.to_lowercase().strip_prefix("content-length:")?.trim().parse().ok());
    let mut body = vec![0; length.unwrap_or(0)];
    stream.read_exact(&mut body).unwrap();
    header + &String::from_utf8(body).unwrap()
}

fn play(stream: &mut TcpStream, reply: Reply) -> std::io::Result<()> {
    let head = |status: u16, length: usize, more: &str| {
        format!("HTTP/1.1 {status} x\r\ncontent-length: {length}\r\nconnection: close\r\n{more}\r\n")
    };
    match reply {
        Reply::Says(status, more, body) => write!(stream, "{}{body}", head(status, body.len(), more)),
        Reply::Truncated(body) => write!(stream, "{}{body}", head(200, body.len() + 10, "")),
        Reply::Endless => {
            write!(stream, "{}", head(200, usize::MAX / 4, ""))?;
            loop {
                stream.write_all(&[b' '; 4096])?;
            }
        }
        Reply::Slow => {
            write!(stream, "{}", head(200, 1000, ""))?;
            loop {
                stream.write_all(b" ")?;
                std::thread::sleep(Duration::from_millis(100));
            }
        }
        Reply::Silent => {
            std::thread::sleep(Duration::from_secs(5));
            Ok(())
        }
        Reply::Closes => Ok(()),
        Reply::Raw(text) => write!(stream, "{text}"),
    }
}
