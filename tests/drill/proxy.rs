//! A TCP proxy between sersync and the rsync daemon, whose connections can be cut, slow, silent or half open.

use std::io::{self, Read as _, Write as _};
use std::net::{Ipv4Addr, Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering::Relaxed};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread;
use std::time::Duration;

use crate::harness::pause;
use crate::rsync_daemon::free_port;

/// How it treats what comes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Mode {
    /// Everything is passed on at once.
    Open = 0,
    /// At some 50 kB a second.
    Slow = 1,
    /// Nothing is passed on, and nobody is told.
    Silent = 2,
    /// Nobody listens.
    Closed = 3,
}

/// How often a waiting thread looks whether it may go on.
const LOOK: Duration = Duration::from_millis(5);
/// In `Mode::Slow`, so many bytes are followed by a `LOOK`.
const SLICE: usize = 256;

/// See the module.
#[derive(Debug)]
pub struct Proxy {
    port: u16,
    shared: Arc<Shared>,
}

#[derive(Debug)]
struct Shared {
    mode: AtomicU8,
    connections: Mutex<Vec<Arc<Connection>>>,
}

#[derive(Debug)]
struct Connection {
    client: TcpStream,
    daemon: TcpStream,
    /// The client hears nothing any more, not even the end.
    is_half_open: AtomicBool,
    is_over: AtomicBool,
    /// Directions that have come to their end.
    ended: AtomicU8,
}

impl Proxy {
    /// One to a port of this machine.
    pub fn start(to: u16) -> io::Result<Self> {
        let port = free_port();
        let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port))?;
        let shared = Arc::new(Shared {
            mode: AtomicU8::new(Mode::Open as u8),
            connections: Mutex::default(),
        });
        let own = Arc::clone(&shared);
        thread::spawn(move || own.listen(listener, port, to));
        Ok(Self { port, shared })
    }

    /// Where it listens.
    pub fn port(&self) -> u16 {
        self.port
    }

    /// From now on, also for connections that are there already.
    pub fn set(&self, mode: Mode) {
        self.shared.mode.store(mode as u8, Relaxed);
    }

    /// Ends all connections on both sides; says how many.
    pub fn cut(&self) -> usize {
        let connections = self.shared.connections();
        for connection in &connections {
            connection.end();
        }
        connections.len()
    }

    /// Ends all connections on the daemon's side, so that the clients wait for ever; says how many.
    pub fn half_open(&self) -> usize {
        let connections = self.shared.connections();
        for connection in &connections {
            connection.is_half_open.store(true, Relaxed);
            // It may have ended by itself.
            let _ = connection.daemon.shutdown(Shutdown::Both);
        }
        connections.len()
    }
}

impl Shared {
    fn is(&self, mode: Mode) -> bool {
        self.mode.load(Relaxed) == mode as u8
    }

    /// Those that are not over.
    fn connections(&self) -> Vec<Arc<Connection>> {
        let mut all = self
            .connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner);
        all.retain(|connection| !connection.is_over.load(Relaxed));
        all.clone()
    }

    fn listen(self: Arc<Self>, listener: TcpListener, port: u16, to: u16) {
        let mut listener = Some(listener);
        loop {
            if self.is(Mode::Closed) {
                listener = None;
            } else if listener.is_none() {
                // Somebody may still hold the port: then the next look will do.
                listener = TcpListener::bind((Ipv4Addr::LOCALHOST, port)).ok();
            }
            match listener.as_ref().map(accept) {
                Some(Some(client)) => self.connect(client, to),
                _ => pause(LOOK / 5), // poll
            }
        }
    }

    /// A client without a daemon is sent away.
    fn connect(self: &Arc<Self>, client: TcpStream, to: u16) {
        let Ok(connection) = Connection::between(client, to) else {
            return;
        };
        self.connections();
        self.connections
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .push(Arc::clone(&connection));
        for is_upwards in [true, false] {
            let (shared, connection) = (Arc::clone(self), Arc::clone(&connection));
            thread::spawn(move || {
                // The end of one direction is told to the other side; an error is the end of both.
                let result = shared.pump(&connection, is_upwards);
                let is_last = connection.ended.fetch_add(1, Relaxed) == 1;
                if is_last || result.is_err() && !connection.is_half_open.load(Relaxed) {
                    connection.end();
                }
            });
        }
    }

    fn pump(&self, connection: &Connection, is_upwards: bool) -> io::Result<()> {
        let (mut from, mut to) = if is_upwards {
            (&connection.client, &connection.daemon)
        } else {
            (&connection.daemon, &connection.client)
        };
        let mut buffer = vec![0; 64 << 10];
        loop {
            let read = from.read(&mut buffer)?;
            while self.is(Mode::Silent) || connection.is_half_open.load(Relaxed) {
                if connection.is_over.load(Relaxed) {
                    return Ok(());
                }
                pause(LOOK); // poll
            }
            if read == 0 {
                let _ = to.shutdown(Shutdown::Write);
                return Ok(());
            }
            let mut rest = &buffer[..read];
            while !rest.is_empty() {
                let is_slow = self.is(Mode::Slow);
                let now = if is_slow {
                    SLICE.min(rest.len())
                } else {
                    rest.len()
                };
                to.write_all(&rest[..now])?;
                rest = &rest[now..];
                if is_slow {
                    pause(LOOK); // interval that makes it slow
                }
            }
        }
    }
}

fn accept(listener: &TcpListener) -> Option<TcpStream> {
    listener.set_nonblocking(true).ok()?;
    let (client, _) = listener.accept().ok()?;
    client.set_nonblocking(false).ok()?;
    Some(client)
}

impl Connection {
    fn between(client: TcpStream, to: u16) -> io::Result<Arc<Self>> {
        let daemon = TcpStream::connect((Ipv4Addr::LOCALHOST, to))?;
        client.set_nodelay(true)?;
        daemon.set_nodelay(true)?;
        Ok(Arc::new(Self {
            client,
            daemon,
            is_half_open: AtomicBool::new(false),
            is_over: AtomicBool::new(false),
            ended: AtomicU8::new(0),
        }))
    }

    fn end(&self) {
        self.is_over.store(true, Relaxed);
        // What has ended by itself cannot be ended.
        let _ = self.client.shutdown(Shutdown::Both);
        let _ = self.daemon.shutdown(Shutdown::Both);
    }
}
