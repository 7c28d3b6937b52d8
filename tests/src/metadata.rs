//! A stand-in for a cloud's metadata server, as far as preemptions go: what it says, that it holds a question until the
//! answer changes, and that it refuses who does not know it.

use std::{
    io::{BufRead, BufReader, Write},
    net::{SocketAddr, TcpListener, TcpStream},
    sync::{Arc, Condvar, Mutex, PoisonError},
    thread,
    time::Duration,
};

#[derive(Debug, Default)]
struct Notice {
    given: Mutex<bool>,
    changed: Condvar,
}

/// Serves until the process ends.
#[derive(Debug)]
pub struct MetadataServer {
    address: SocketAddr,
    notice: Arc<Notice>,
}

impl MetadataServer {
    /// One on a free port of this machine; no notice is given.
    ///
    /// # Panics
    /// There is no port.
    #[must_use]
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
        let address = listener.local_addr().expect("its address");
        let notice = Arc::new(Notice::default());
        let shared = notice.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let notice = shared.clone();
                // Whoever asks and hangs up is of no interest.
                thread::spawn(move || answer(&stream, &notice).unwrap_or_default());
            }
        });
        Self { address, notice }
    }

    /// "http://127.0.0.1:1234"
    #[must_use]
    pub fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Says from now on whether the machine is about to be taken away.
    pub fn set_preempted(&self, given: bool) {
        *self.notice.given.lock().unwrap_or_else(PoisonError::into_inner) = given;
        self.notice.changed.notify_all();
    }
}

fn answer(stream: &TcpStream, notice: &Notice) -> std::io::Result<()> {
    let mut lines = BufReader::new(stream).lines();
    let asked = lines.next().unwrap_or_else(|| Ok(String::new()))?;
    let mut knows_us = false;
    for line in lines {
        let line = line?;
        if line.is_empty() {
            break;
        }
        knows_us |= line.eq_ignore_ascii_case("metadata-flavor: google");
    }
    let path = asked.split(' ').nth(1).unwrap_or_default();
    if !knows_us || !path.starts_with("/computeMetadata/v1/instance/preempted") {
        return reply(stream, "403 Forbidden", "", "");
    }
    let mut given = notice.given.lock().unwrap_or_else(PoisonError::into_inner);
    let is_news = |given: bool| !path.contains(&format!("last_etag={given}"));
    if path.contains("wait_for_change=true") {
        let wait = notice.changed.wait_timeout_while(given, Duration::from_secs(60), |given| !is_news(*given));
        given = wait.unwrap_or_else(PoisonError::into_inner).0;
    }
    let text = if *given { "TRUE" } else { "FALSE" };
    let etag = format!("ETag: {}\r\n", *given);
    drop(given);
    reply(stream, "200 OK", &etag, text)
}

fn reply(mut stream: &TcpStream, status: &str, headers: &str, body: &str) -> std::io::Result<()> {
    let length = body.len();
    write!(stream, "HTTP/1.1 {status}\r\n{headers}Connection: close\r\nContent-Length: {length}\r\n\r\n{body}")
}
