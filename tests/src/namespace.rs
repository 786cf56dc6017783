//! A network of its own for a gateway, that can be cut, and names of its own.

use std::fs;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::process::Command;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use tokio::net::UdpSocket;
use tokio::task::JoinHandle;

/// A network namespace with two links to where the test is: `front` for callers, `back` for services.
/// Its name server is [`NameServer`], if one is started.
#[derive(Debug)]
pub struct Namespace {
    name: String,
    front: Link,
    back: Link,
}

/// A pair of addresses, and the interface of the outer one.
#[derive(Debug)]
struct Link {
    interface: String,
    outside: Ipv4Addr,
    inside: Ipv4Addr,
}

impl Namespace {
    /// Makes one; `None`, and a loud word, where the runner may not.
    pub fn create() -> Option<Self> {
        let id = std::process::id() % 4096;
        // RFC 2544: for tests of networks, and nobody's.
        let address = |last: u32| {
            let [_, _, high, low] = (id * 16 + last).to_be_bytes();
            Ipv4Addr::new(198, 18, high, low)
        };
        let link = |letter: &str, first: u32| Link {
            interface: format!("pc{letter}{id}"),
            outside: address(first),
            inside: address(first + 1),
        };
        let namespace = Self {
            name: format!("portcullis-{id}"),
            front: link("f", 1),
            back: link("b", 5),
        };
        if let Err(error) = namespace.set_up() {
            eprintln!("SKIPPED: no network namespace can be made here: {error}");
            return None;
        }
        Some(namespace)
    }

    fn set_up(&self) -> Result<(), String> {
        let name = &self.name;
        ip(&format!("netns add {name}"))?;
        ip(&format!("-n {name} link set lo up"))?;
        for (link, inner) in [(&self.front, "front"), (&self.back, "back")] {
            let outer = &link.interface;
            ip(&format!(
                "link add {outer} type veth peer name {inner} netns {name}"
            ))?;
            ip(&format!("addr add {}/30 dev {outer}", link.outside))?;
            ip(&format!(
                "-n {name} addr add {}/30 dev {inner}",
                link.inside
            ))?;
            ip(&format!("-n {name} link set {inner} up"))?;
            ip(&format!("link set {outer} up"))?;
        }
        let directory = format!("/etc/netns/{name}");
        let resolver = format!(
            "nameserver {}\noptions timeout:1 attempts:1\n",
            self.front.outside
        );
        fs::create_dir_all(&directory)
            .and_then(|()| fs::write(format!("{directory}/resolv.conf"), resolver))
            .map_err(|error| error.to_string())
    }

    /// Where a gateway in it listens.
    pub fn inside(&self) -> IpAddr {
        self.front.inside.into()
    }

    /// Where a service can listen that is on the side of the callers.
    pub fn front(&self) -> IpAddr {
        self.front.outside.into()
    }

    /// Where services listen.
    pub fn back(&self) -> IpAddr {
        self.back.outside.into()
    }

    /// Nothing gets through to the services, and nobody is told.
    pub fn cut(&self) {
        ip(&format!("link set {} down", self.back.interface)).unwrap();
    }

    /// Everything gets through again.
    pub fn mend(&self) {
        ip(&format!("link set {} up", self.back.interface)).unwrap();
    }

    /// `program` in it; it becomes the program, which has its process id.
    pub(crate) fn command(&self, program: &std::path::Path) -> Command {
        let mut command = Command::new("ip");
        command.args(["netns", "exec", &self.name]).arg(program);
        command
    }
}

impl Drop for Namespace {
    fn drop(&mut self) {
        // The links go with it. What was never made cannot be removed.
        let _ = ip(&format!("netns del {}", self.name));
        let _ = fs::remove_dir_all(format!("/etc/netns/{}", self.name));
    }
}

fn ip(arguments: &str) -> Result<(), String> {
    let output = Command::new("ip")
        .args(arguments.split(' '))
        .output()
        .map_err(|error| format!("ip: {error}"))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(format!(
            "ip {arguments}: {}",
            String::from_utf8_lossy(&output.stderr).trim()
        )),
    }
}

/// What a name server says of every name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum NameAnswer {
    /// It has this address.
    Address(Ipv4Addr),
    /// There is no such name.
    NoSuchName,
    /// The server has failed.
    Failure,
    /// Nothing.
    Silence,
}

/// The name server of a [`Namespace`].
#[derive(Debug)]
pub struct NameServer {
    answer: Arc<Mutex<NameAnswer>>,
    questions: Arc<AtomicUsize>,
    serving: JoinHandle<()>,
}

impl NameServer {
    /// Answers like this, from now on.
    pub async fn start(namespace: &Namespace, answer: NameAnswer) -> Self {
        let socket = UdpSocket::bind(SocketAddr::new(namespace.front(), 53))
            .await
            .unwrap();
        let answer = Arc::new(Mutex::new(answer));
        let questions = Arc::new(AtomicUsize::new(0));
        let (current, count) = (Arc::clone(&answer), Arc::clone(&questions));
        let serving = tokio::spawn(async move {
            let mut buffer = [0; 512];
            while let Ok((length, from)) = socket.recv_from(&mut buffer).await {
                count.fetch_add(1, Ordering::SeqCst);
                let answer = *current.lock().unwrap();
                if let Some(answer) = answer_to(&buffer[..length], answer) {
                    let _ = socket.send_to(&answer, from).await;
                }
            }
        });
        Self {
            answer,
            questions,
            serving,
        }
    }

    /// Answers like this, from now on.
    pub fn say(&self, answer: NameAnswer) {
        *self.answer.lock().unwrap() = answer;
    }

    /// How often it was asked.
    pub fn questions(&self) -> usize {
        self.questions.load(Ordering::SeqCst)
    }
}

impl Drop for NameServer {
    fn drop(&mut self) {
        self.serving.abort();
    }
}

/// RFC 1035 §4.1, for one question.
fn answer_to(question: &[u8], answer: NameAnswer) -> Option<Vec<u8>> {
    const ADDRESS: u8 = 1;
    let name_end = 12 + question.get(12..)?.iter().position(|byte| *byte == 0)? + 1;
    let kind = *question.get(name_end + 1)?;
    let (code, address) = match answer {
        NameAnswer::Address(address) => (0, Some(address).filter(|_| kind == ADDRESS)),
        NameAnswer::NoSuchName => (3, None),
        NameAnswer::Failure => (2, None),
        NameAnswer::Silence => return None,
    };
    let mut bytes = question.get(..2)?.to_vec();
    bytes.extend([
        0x81,
        0x80 | code,
        0,
        1,
        0,
        u8::from(address.is_some()),
        0,
        0,
        0,
        0,
    ]);
    bytes.extend(question.get(12..name_end + 4)?);
    if let Some(address) = address {
        bytes.extend([0xC0, 12, 0, ADDRESS, 0, 1, 0, 0, 0, 1, 0, 4]);
        bytes.extend(address.octets());
    }
    Some(bytes)
}
