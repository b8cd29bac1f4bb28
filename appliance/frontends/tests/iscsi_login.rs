//! In the simulator: logins over the wire, from initiators with a secret and from peers that mean
//! no good, alone and by the thousand. What they do never harms the sessions there are.

mod common;

use std::io;
use std::net::SocketAddr;
use std::rc::Rc;
use std::sync::Arc;

use common::initiator::{Initiator, NoLogin, Wish};
use common::iscsi_world::{BLOCK, Shared, settles, start, with_host};
use common::sim::{SECOND, run_host, world};
use common::sim_host::{block_data, recv_exact, send_all};
use frontends::iscsi::login::{ChapSecrets, ChapUser};
use frontends::iscsi::{Auth, Options};
use md5::{Digest, Md5};
use reactor::net::TcpStream;
use reactor::time::{sleep, timeout};
use wire::iscsi::text::{Pairs, decode_binary};
use wire::iscsi::{
    BHS_BYTES, Bhs, InitiatorNumbers, LoginFlags, LoginRequest, LoginResponse, LoginStatus, NO_TAG,
    NopOut, Opcode, Stage, pdu,
};

const SECRET: &[u8] = b"initiator secret";
const TARGET_SECRET: &[u8] = b"a secret of the target";

const STAY: LoginFlags = LoginFlags {
    transit: false,
    continues: false,
    current: Stage::SECURITY,
    next: Stage::SECURITY,
};
const TO_OPERATIONAL: LoginFlags = LoginFlags {
    transit: true,
    next: Stage::OPERATIONAL,
    ..STAY
};
const TO_END: LoginFlags = LoginFlags {
    transit: true,
    continues: false,
    current: Stage::OPERATIONAL,
    next: Stage::FULL_FEATURE,
};

/// A peer that says what it likes.
struct Peer {
    stream: TcpStream,
}

impl Peer {
    async fn connect(server: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(server).await?;
        Ok(Self { stream })
    }

    /// Sends a login request, and gives the answer with its pairs.
    async fn say(
        &self,
        form: LoginFlags,
        text: &str,
    ) -> io::Result<(LoginResponse, Vec<(String, String)>)> {
        self.send(form, text.as_bytes()).await?;
        self.hear().await
    }

    async fn send(&self, form: LoginFlags, text: &[u8]) -> io::Result<()> {
        let numbers = InitiatorNumbers::default();
        let header = LoginRequest::new([0x80, 0, 0, 0, 0, 9], (0, 0), 0, form, text.len(), numbers);
        send_all(&self.stream, &framed(header.as_wire(), text)).await
    }

    async fn hear(&self) -> io::Result<(LoginResponse, Vec<(String, String)>)> {
        let mut header = [0; BHS_BYTES];
        recv_exact(&self.stream, &mut header).await?;
        let bhs = *Bhs::decode(&header).expect("48 bytes");
        assert_eq!(bhs.opcode(), Opcode::LOGIN_RESPONSE);
        let mut text = vec![0; bhs.data_bytes().next_multiple_of(4)];
        recv_exact(&self.stream, &mut text).await?;
        text.truncate(bhs.data_bytes());
        let pairs = Pairs::new(&text)
            .map(|pair| pair.map(|pair| (pair.key.to_owned(), pair.value.to_owned())));
        let pairs = pairs.collect::<Result<_, _>>().expect("well-formed text");
        Ok((zerocopy::transmute!(bhs), pairs))
    }

    /// Whether the target closes the connection by itself, and soon.
    async fn is_closed(&self) -> bool {
        let mut rest = [0; 512];
        let end = async { while recv_exact(&self.stream, &mut rest[..1]).await.is_ok() {} };
        timeout(10 * SECOND, end).await.is_ok()
    }
}

fn framed(header: &[u8], text: &[u8]) -> Vec<u8> {
    let mut bytes = [header, text].concat();
    bytes.resize(bytes.len().next_multiple_of(4), 0);
    bytes
}

fn who() -> String {
    let wish = Wish::new();
    let target = wish.target.expect("a target");
    format!("InitiatorName={}\0TargetName={target}\0", wish.initiator)
}

fn secrets() -> Auth {
    let user = |user: &str, secret: &[u8]| ChapUser {
        initiator: None,
        user: user.to_owned(),
        secret: secret.to_vec(),
    };
    Auth::Chap(Arc::new(ChapSecrets {
        initiators: vec![user("host", SECRET)],
        target: Some(user("target", TARGET_SECRET)),
    }))
}

fn chap(identifier: u8, secret: &[u8], challenge: &[u8]) -> String {
    let sum = Md5::new()
        .chain_update([identifier])
        .chain_update(secret)
        .chain_update(challenge)
        .finalize();
    let digits: Vec<String> = sum.iter().map(|byte| format!("{byte:02x}")).collect();
    format!("0x{}", digits.concat())
}

fn value<'a>(pairs: &'a [(String, String)], key: &str) -> &'a str {
    let found = pairs.iter().find(|pair| pair.0 == key);
    &found.unwrap_or_else(|| panic!("no {key} in {pairs:?}")).1
}

/// Proves itself with `secret`, and has the target prove itself too.
async fn authenticate(peer: &Peer, secret: &[u8]) -> io::Result<(LoginResponse, Vec<u8>)> {
    let first = format!("{}AuthMethod=CHAP\0", who());
    let (_, pairs) = peer.say(TO_OPERATIONAL, &first).await?;
    assert_eq!(value(&pairs, "AuthMethod"), "CHAP");
    let (_, pairs) = peer.say(STAY, "CHAP_A=5\0").await?;
    let identifier = value(&pairs, "CHAP_I").parse().expect("a number");
    let mut challenge = [0; 64];
    let len = decode_binary(value(&pairs, "CHAP_C"), &mut challenge).expect("binary");
    let challenge = challenge[..len].to_vec();
    let response = chap(identifier, secret, &challenge);
    let proof = format!("CHAP_N=host\0CHAP_R={response}\0CHAP_I=9\0CHAP_C=0x0a0b0c\0");
    let (header, pairs) = peer.say(TO_OPERATIONAL, &proof).await?;
    if header.status() == LoginStatus::SUCCESS {
        assert_eq!(value(&pairs, "CHAP_N"), "target");
        let expected = chap(9, TARGET_SECRET, &[10, 11, 12]);
        assert_eq!(value(&pairs, "CHAP_R"), expected);
    }
    Ok((header, challenge))
}

/// The volume lives on another core than the one that accepts: the login moves there.
#[test]
fn both_sides_prove_themselves_wherever_the_volume_is() {
    for cores in [1, 2] {
        let mut world = world(cores as u64);
        let (server, targets) = start(&mut world, cores, |options| options.auth = secrets());
        run_host(&mut world, server, |server| async move {
            let good = Peer::connect(server).await.expect("connected");
            let (header, first) = authenticate(&good, SECRET).await.expect("answers");
            assert_eq!(header.form(), TO_OPERATIONAL);
            let (header, _) = good.say(TO_END, "").await.expect("an answer");
            assert_eq!(header.form(), TO_END);
            assert_ne!(header.tsih.get(), 0);

            let bad = Peer::connect(server).await.expect("connected");
            let (header, second) = authenticate(&bad, b"not the secret")
                .await
                .expect("answers");
            assert_eq!(header.status(), LoginStatus::AUTHENTICATION_FAILED);
            assert!(bad.is_closed().await);
            assert_ne!(first, second, "a challenge is never used again");

            // It did not even end the session of the one that did prove itself.
            let ping = NopOut::new(7, NO_TAG, [0; 8], 0, InitiatorNumbers::default());
            send_all(&good.stream, ping.as_wire()).await.expect("sent");
            let mut pong = [0; BHS_BYTES];
            recv_exact(&good.stream, &mut pong).await.expect("a pong");
            assert_eq!(Bhs::decode(&pong).map(Bhs::opcode), Ok(Opcode::NOP_IN));
        });
        settles(&mut world, &targets);
    }
}

#[test]
fn who_does_not_prove_itself_stays_outside() {
    with_host(
        1,
        |options| options.auth = secrets(),
        |server| async move {
            let discovery = Wish {
                target: None,
                ..Wish::new()
            };
            for wish in [Wish::new(), discovery] {
                let refused = Initiator::login(server, wish).await.err();
                let status = match refused {
                    Some(NoLogin::Refused(status)) => status,
                    other => panic!("{other:?}"),
                };
                assert_eq!(status, LoginStatus::AUTHENTICATION_FAILED);
            }
        },
    );
}

/// Sessions that do nothing for a while stay.
fn unasked(options: &mut Options) {
    options.nop_interval = 1_000 * SECOND;
}

/// What a peer sends first, that is no login.
fn garbage() -> Vec<Vec<u8>> {
    let request = |change: fn(&mut LoginRequest)| {
        let numbers = InitiatorNumbers::default();
        let mut header = LoginRequest::new([0; 6], (0, 0), 0, TO_END, 0, numbers);
        change(&mut header);
        header.as_wire().to_vec()
    };
    let ping = NopOut::new(1, NO_TAG, [0; 8], 0, InitiatorNumbers::default());
    vec![
        vec![0xff; 4096],
        vec![0; 4096],
        b"GET / HTTP/1.1\r\nHost: storage\r\nAccept: */*\r\n\r\n".to_vec(),
        ping.as_wire().to_vec(),
        request(|header| header.data_len = pdu::data_len(8193)),
        request(|header| header.data_len = [0xff; 3]),
        request(|header| header.ahs_words = 1),
        request(|header| header.ahs_words = 255),
        request(|header| header.opcode = 0x05),
        request(|header| header.opcode = 0x23),
        request(|header| header.flags = 0xc7),
        request(|header| header.version_min = 1),
        request(|_| {}),
        framed(
            &request(|header| header.data_len = pdu::data_len(4)),
            b"A=1\n",
        ),
        framed(
            &request(|header| header.data_len = pdu::data_len(4)),
            &[0xff; 4],
        ),
    ]
}

#[test]
fn garbage_ends_its_own_connection_only() {
    with_host(2, unasked, |server| async move {
        let mut one = Initiator::login(server, Wish::new())
            .await
            .expect("a login");
        one.settle().await.expect("ready");
        for (n, bytes) in garbage().into_iter().enumerate() {
            let peer = Peer::connect(server).await.expect("connected");
            // It may close before all was sent.
            let _ = send_all(&peer.stream, &bytes).await;
            assert!(peer.is_closed().await, "garbage {n}");
        }
        one.write(0, &block_data(1, 1), BLOCK)
            .await
            .expect("unharmed");
    });
}

#[test]
fn a_login_has_so_much_time_however_it_spends_it() {
    with_host(
        3,
        |options| options.login_timeout = 2 * SECOND,
        |server| async move {
            let silent = Peer::connect(server).await.expect("connected");
            assert!(silent.is_closed().await);
            let slow = Peer::connect(server).await.expect("connected");
            let begun = reactor::now();
            for byte in [0x43].into_iter().chain([0; 47]) {
                if send_all(&slow.stream, &[byte]).await.is_err() {
                    break;
                }
                sleep(SECOND / 4).await;
            }
            assert!(slow.is_closed().await);
            let spent = reactor::now() - begun;
            assert!(spent < 20 * SECOND, "{spent:?}");
            let polite = Peer::connect(server).await.expect("connected");
            let first = polite.say(STAY, &who()).await;
            first.expect("an answer");
            let mut requests = 1;
            while polite.say(STAY, "").await.is_ok() {
                requests += 1;
                sleep(SECOND / 4).await;
            }
            assert!(requests <= 10, "{requests} in two seconds");
        },
    );
}

#[test]
fn a_text_without_end_is_refused() {
    with_host(
        4,
        |_| {},
        |server| async move {
            let peer = Peer::connect(server).await.expect("connected");
            let more = LoginFlags {
                continues: true,
                ..STAY
            };
            let piece = [b'A'; 8192];
            for _ in 0..2 {
                peer.send(more, &piece).await.expect("sent");
                let (header, _) = peer.hear().await.expect("an answer");
                assert_eq!(header.status(), LoginStatus::SUCCESS);
            }
            peer.send(more, &piece).await.expect("sent");
            let (header, _) = peer.hear().await.expect("an answer");
            assert_eq!(header.status(), LoginStatus::INITIATOR_ERROR);
            assert!(peer.is_closed().await);
        },
    );
}

fn closed(targets: &Shared, reason: &str) -> u64 {
    let targets = targets.borrow();
    let closed = |target: &frontends::iscsi::Target| target.metrics().closed.get(reason).copied();
    targets
        .iter()
        .filter_map(|(target, _)| closed(target))
        .sum()
}

fn session_count(targets: &Shared) -> usize {
    let targets = targets.borrow();
    let counts = targets.iter().map(|(target, _)| target.sessions().len());
    counts.sum()
}

const HALF_OPEN: usize = 10_000;

/// Ten thousand peers that begin a login and say no more, while a session works and new hosts come.
#[test]
fn half_open_logins_crowd_out_each_other_only() {
    let limits = |options: &mut Options| {
        unasked(options);
        options.max_unconnected = 32;
        options.login_timeout = 1_000 * SECOND;
    };
    let mut world = world(5);
    let (server, targets) = start(&mut world, 1, limits);
    run_host(&mut world, server, |server| async move {
        let mut one = Initiator::login(server, Wish::new())
            .await
            .expect("a login");
        one.settle().await.expect("ready");
        let mut peers = Vec::new();
        for n in 0..HALF_OPEN {
            // Only the beginning of a header, or a first request that is never followed up.
            let Ok(peer) = Peer::connect(server).await else {
                continue;
            };
            let said = match n % 2 {
                0 => send_all(&peer.stream, &[0x43, 0x87, 0]).await,
                _ => peer.send(STAY, who().as_bytes()).await,
            };
            drop(said);
            peers.push(peer);
            if n % 500 != 499 {
                continue;
            }
            let block = block_data(n as u64, 1);
            one.write(n as u32 % 64, &block, BLOCK)
                .await
                .expect("works");
            let found = one.read(n as u32 % 64, 1, BLOCK).await.expect("works");
            assert!(found == block);
            let another = Wish {
                isid: [0x80, 0, 0, 0, 1, 0],
                ..Wish::new()
            };
            let two = Initiator::login(server, another).await;
            two.expect("a host that goes on gets in");
            peers.retain(|_| n % 1000 == 999);
        }
    });
    let limit = closed(&targets, "limit");
    assert!(limit > 9_000, "{limit} were crowded out");
    settles(&mut world, &targets);
}

/// Many hosts that say they are the same initiator port: the last one wins, the others are gone.
#[test]
fn a_storm_of_reinstatements_leaves_one_session() {
    let mut world = world(6);
    let (server, targets) = start(&mut world, 2, |_| {});
    let seen = targets.clone();
    run_host(&mut world, server, move |server| {
        let targets = seen.clone();
        async move {
            let winners = Rc::new(std::cell::RefCell::new(Vec::new()));
            let mut tasks = Vec::new();
            for _ in 0..24 {
                let winners = winners.clone();
                tasks.push(reactor::spawn(async move {
                    if let Ok(one) = Initiator::login(server, Wish::new()).await {
                        winners.borrow_mut().push(one);
                    }
                }));
            }
            for task in tasks {
                task.await;
            }
            sleep(SECOND).await;
            assert_eq!(session_count(&targets), 1);
            let mut alive = 0;
            let winners = winners.take();
            for mut one in winners {
                alive += usize::from(one.settle().await.is_ok());
            }
            assert_eq!(alive, 1, "one of those who were let in is in");
        }
    });
    settles(&mut world, &targets);
}
