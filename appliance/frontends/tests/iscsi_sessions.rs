//! In the simulator: sessions of several connections, the order of commands over them, logouts,
//! discovery, and task management.

mod common;

use std::cell::Cell;
use std::net::SocketAddr;
use std::rc::Rc;
use std::time::Duration;

use common::initiator::{INITIATOR, Initiator, NoLogin, Wish, write10};
use common::iscsi_world::{BLOCK, BLOCKS, PORT, listen, offer, options, with_host};
use common::sim::{SECOND, run_host, world};
use common::sim_host::block_data;
use frontends::HostAccess;
use frontends::iscsi::{Directory, Target};
use frontends::reservation::Reservations;
use reactor::time::{sleep, timeout};
use wire::iscsi::{
    AsyncMessage, LoginStatus, LogoutReason, NopOut, Opcode, Reject, RejectReason, ScsiCommand,
    SnackRequest, TaskAttribute, TaskFunction, flags,
};

async fn login(server: SocketAddr, wish: Wish) -> Initiator {
    Initiator::login(server, wish).await.expect("a login")
}

/// Sends a write to block 0 that is an ORDERED task.
async fn start_ordered(one: &mut Initiator, data: &[u8]) -> u32 {
    let itt = one.new_itt();
    let numbers = one.next_numbers();
    let cdb = write10(0, (data.len() / BLOCK) as u16);
    let expected = data.len() as u32;
    let mut command = ScsiCommand::new(itt, [0; 8], cdb, flags::WRITE, expected, numbers);
    command.flags = command.flags & !flags::ATTRIBUTE | TaskAttribute::ORDERED.0;
    one.start_with(command, data).await.expect("sent");
    itt
}

/// A session of two connections.
async fn pair(server: SocketAddr) -> (Initiator, Initiator) {
    let mut first = login(server, Wish::new()).await;
    first.settle().await.expect("ready");
    let wish = Wish {
        tsih: first.tsih,
        cid: 1,
        cmd_sn: first.cmd_sn,
        ..Wish::new()
    };
    let second = login(server, wish).await;
    assert_eq!(second.tsih, first.tsih);
    assert_eq!(second.exp_cmd_sn, first.cmd_sn, "the session's number");
    (first, second)
}

#[test]
fn commands_of_two_connections_take_effect_in_the_order_of_their_numbers() {
    with_host(
        1,
        |_| {},
        |server| async move {
            let (mut first, mut second) = pair(server).await;
            for round in 0..50u64 {
                let base = first.cmd_sn;
                // The later command is sent first and has to wait for the earlier one.
                let blocks = 1 + (round % 30) as usize;
                let late = block_data(2 * round + 2, blocks);
                second.cmd_sn = base.wrapping_add(1);
                let late_itt = start_ordered(&mut second, &late).await;
                sleep(Duration::from_micros(round * 20)).await;
                let early = block_data(2 * round + 1, blocks);
                let cdb = write10(0, blocks as u16);
                let early_itt = first.start(cdb, 0, &early).await.expect("sent");
                assert!(
                    first
                        .finish(early_itt, &early)
                        .await
                        .expect("answered")
                        .is_good()
                );
                let ended = second.finish(late_itt, &late).await.expect("answered");
                assert!(ended.is_good());
                first.cmd_sn = base.wrapping_add(2);
                let found = first.read(0, blocks as u16, BLOCK).await.expect("read");
                assert!(
                    found == late,
                    "the later one of round {round} is what stays"
                );
            }
        },
    );
}

#[test]
fn a_command_outside_of_the_window_is_ignored() {
    with_host(
        2,
        |_| {},
        |server| async move {
            let mut one = login(server, Wish::new()).await;
            one.settle().await.expect("ready");
            let good = one.cmd_sn;
            for number in [good.wrapping_sub(1), one.max_cmd_sn.wrapping_add(1)] {
                one.cmd_sn = number;
                let data = block_data(666, 4);
                let itt = one.start(write10(0, 4), 0, &data).await.expect("sent");
                let answer = timeout(SECOND, one.receive_for(itt)).await;
                assert!(answer.is_err(), "not a word about it");
                one.cmd_sn = good;
            }
            one.settle().await.expect("the session goes on");
            let found = one.read(0, 4, BLOCK).await.expect("read");
            assert!(found.iter().all(|byte| *byte == 0));
        },
    );
}

#[test]
fn a_gap_that_nobody_fills_ends_the_session() {
    with_host(
        12,
        |_| {},
        |server| async move {
            let mut one = login(server, Wish::new()).await;
            one.settle().await.expect("ready");
            one.cmd_sn += 1;
            let data = block_data(666, 1);
            let itt = one.start(write10(0, 1), 0, &data).await.expect("sent");
            // It answers pings, and yet holds memory for a command that cannot start.
            let answer = timeout(10 * SECOND, one.receive_for(itt)).await;
            assert!(answer.expect("in time").is_err(), "the session is closed");
            let mut next = login(server, Wish::new()).await;
            next.settle().await.expect("ready");
            let found = next.read(0, 1, BLOCK).await.expect("read");
            assert!(found.iter().all(|byte| *byte == 0));
        },
    );
}

#[test]
fn only_listed_initiators_see_a_target_and_come_in() {
    let mut world = world(13);
    let server = SocketAddr::new(world.node("target"), PORT);
    world.start("target", 1, move |_| async move {
        let target = Target::new(options(Directory::new())).expect("good options");
        let volume = volume::testing::memory_volume(BLOCKS, BLOCK as u32);
        let reservations = Reservations::load(volume.clone()).await;
        // Names have no case.
        let friends = HostAccess::Listed(vec![INITIATOR.to_uppercase()]);
        target
            .add_volume(volume, reservations, friends)
            .expect("the first");
        listen(&target, 1);
        sleep(1_000 * SECOND).await;
    });
    run_host(&mut world, server, |server| async move {
        let seen = async |initiator: &str| {
            let wish = Wish {
                initiator: initiator.to_owned(),
                target: None,
                ..Wish::new()
            };
            let mut one = login(server, wish).await;
            one.text(b"SendTargets=All\0")
                .await
                .expect("an answer")
                .len()
        };
        let stranger = "iqn.2026-11.org.example:stranger";
        assert_ne!(seen(INITIATOR).await, 0);
        assert_eq!(seen(stranger).await, 0);
        login(server, Wish::new())
            .await
            .settle()
            .await
            .expect("ready");
        let wish = Wish {
            initiator: stranger.to_owned(),
            ..Wish::new()
        };
        match Initiator::login(server, wish).await {
            Err(NoLogin::Refused(status)) => assert_eq!(status, LoginStatus::NOT_AUTHORIZED),
            _ => panic!("a stranger came in"),
        }
    });
}

#[test]
fn a_connection_takes_the_place_of_one_with_its_identifier() {
    with_host(
        3,
        |_| {},
        |server| async move {
            let (mut first, mut second) = pair(server).await;
            let wish = Wish {
                tsih: first.tsih,
                cid: 1,
                cmd_sn: first.cmd_sn,
                ..Wish::new()
            };
            let mut third = login(server, wish).await;
            assert!(second.is_closed().await);
            third.settle().await.expect("ready");
            first.cmd_sn = third.cmd_sn;
            first.settle().await.expect("the other connection goes on");
            // And one after the other logs out.
            assert_eq!(
                first
                    .logout(LogoutReason::CLOSE_CONNECTION, 1)
                    .await
                    .expect("an answer"),
                0
            );
            assert!(third.is_closed().await);
            assert_eq!(
                first
                    .logout(LogoutReason::CLOSE_CONNECTION, 7)
                    .await
                    .expect("an answer"),
                1
            );
            let recovery = first.logout(LogoutReason::REMOVE_FOR_RECOVERY, 0).await;
            assert_eq!(recovery.expect("an answer"), 2);
            first.settle().await.expect("it is still there");
            assert_eq!(
                first
                    .logout(LogoutReason::CLOSE_SESSION, 0)
                    .await
                    .expect("an answer"),
                0
            );
            let since = reactor::now();
            assert!(first.is_closed().await);
            assert!(since.elapsed() < SECOND / 10, "hosts wait for it");
        },
    );
}

#[test]
fn a_connection_that_fails_takes_its_session_along() {
    with_host(
        4,
        |_| {},
        |server| async move {
            let (mut first, second) = pair(server).await;
            second.stream.shutdown().expect("it was open");
            assert!(first.is_closed().await);
        },
    );
}

#[test]
fn who_cannot_join_is_refused() {
    with_host(
        5,
        |options| options.max_session_connections = 2,
        |server| async move {
            let (first, _second) = pair(server).await;
            let join = |tsih, cid, isid| Wish {
                tsih,
                cid,
                isid,
                cmd_sn: first.cmd_sn,
                ..Wish::new()
            };
            let own = Wish::new().isid;
            let rows = [
                (join(first.tsih, 2, own), LoginStatus::TOO_MANY_CONNECTIONS),
                (join(first.tsih + 1, 2, own), LoginStatus::NO_SESSION),
                (
                    join(first.tsih, 2, [0x80, 9, 9, 9, 9, 9]),
                    LoginStatus::NO_SESSION,
                ),
            ];
            for (wish, expected) in rows {
                match Initiator::login(server, wish).await {
                    Err(NoLogin::Refused(status)) => assert_eq!(status, expected),
                    _ => panic!("{expected:?} was expected"),
                }
            }
            let elsewhere = SocketAddr::new(server.ip(), PORT + 1);
            match Initiator::login(elsewhere, join(first.tsih, 1, own)).await {
                Err(NoLogin::Refused(status)) => assert_eq!(status, LoginStatus::CANNOT_INCLUDE),
                _ => panic!("a session stays in its portal group"),
            }
            let unknown = Wish {
                target: Some("iqn.2026-11.io.bedplate:nothing".to_owned()),
                ..Wish::new()
            };
            match Initiator::login(server, unknown).await {
                Err(NoLogin::Refused(status)) => assert_eq!(status, LoginStatus::NOT_FOUND),
                _ => panic!("there is no such target"),
            }
        },
    );
}

#[test]
fn discovery_lists_every_portal_and_moves_no_data() {
    with_host(
        6,
        |_| {},
        |server| async move {
            let wish = Wish {
                target: None,
                max_recv_data_bytes: 512,
                ..Wish::new()
            };
            let mut one = login(server, wish).await;
            let text = one.text(b"SendTargets=All\0").await.expect("an answer");
            let text = String::from_utf8(text).expect("text");
            let expected = format!(
                "TargetName=iqn.2026-11.io.bedplate:memory\0TargetAddress={ip}:{PORT},1\0TargetAddress={ip}:{},2\0",
                PORT + 1,
                ip = server.ip()
            );
            assert_eq!(text, expected);
            one.start([0; 16], 0, &[]).await.expect("sent");
            let reject: Reject = zerocopy::transmute!(
                one.receive_kind(Opcode::REJECT)
                    .await
                    .expect("a reject")
                    .bhs
            );
            assert_eq!(reject.reason, RejectReason::PROTOCOL_ERROR.0);
            one.cmd_sn -= 1;
            assert_eq!(
                one.logout(LogoutReason::CLOSE_SESSION, 0)
                    .await
                    .expect("an answer"),
                0
            );
        },
    );
}

#[test]
fn pings_come_back_and_snacks_do_not() {
    with_host(
        7,
        |_| {},
        |server| async move {
            let wish = Wish {
                digests: true,
                ..Wish::new()
            };
            let mut one = login(server, wish).await;
            for len in [0, 1, 7, 4096, 100_000] {
                let data: Vec<u8> = (0..len).map(|at| at as u8).collect();
                let itt = one.new_itt();
                let ping = NopOut::new(itt, wire::iscsi::NO_TAG, [0; 8], len, one.numbers());
                one.send(ping.as_wire(), &data).await.expect("sent");
                let answer = one.receive_for(itt).await.expect("an answer");
                assert!(answer.opcode() == Opcode::NOP_IN && answer.data == data);
            }
            let mut snack = SnackRequest::zeroed();
            snack.opcode = Opcode::SNACK_REQUEST.0;
            snack.flags = 0x80;
            one.send(snack.as_wire(), &[]).await.expect("sent");
            let reject: Reject = zerocopy::transmute!(
                one.receive_kind(Opcode::REJECT)
                    .await
                    .expect("a reject")
                    .bhs
            );
            assert_eq!(reject.reason, RejectReason::SNACK_REJECT.0);
            one.settle().await.expect("the session goes on");
        },
    );
}

/// Starts a write and does not send the data it is asked for.
async fn hanging_write(one: &mut Initiator) -> u32 {
    let data = block_data(9, 40);
    let itt = one.start(write10(0, 40), 0, &data).await.expect("sent");
    let asked = one.receive_for(itt).await.expect("an R2T");
    assert_eq!(asked.opcode(), Opcode::R2T);
    itt
}

#[test]
fn task_management_ends_what_it_names() {
    with_host(
        8,
        |_| {},
        |server| async move {
            let wish = Wish {
                initial_r2t: true,
                immediate_data: false,
                max_outstanding_r2t: 1,
                ..Wish::new()
            };
            let other = Wish {
                isid: [0x80, 0, 0, 0, 0, 9],
                ..wish.clone()
            };
            let mut one = login(server, wish).await;
            one.settle().await.expect("ready");
            let mut two = login(server, other).await;
            two.settle().await.expect("ready");
            // ABORT TASK: of a task, of none, of one whose number is in use no more.
            let itt = hanging_write(&mut one).await;
            let number = one.cmd_sn - 1;
            let abort = TaskFunction::ABORT_TASK;
            assert_eq!(one.manage(abort, itt, number).await.expect("an answer"), 0);
            assert_eq!(one.manage(abort, itt, number).await.expect("an answer"), 1);
            // What the aborted command was asked for is passed over.
            one.send_data(itt, 1 << 10, 0, &block_data(9, 40))
                .await
                .expect("sent");
            one.settle().await.expect("the session goes on");
            let unsupported = one.manage(TaskFunction::TASK_REASSIGN, itt, 0).await;
            assert_eq!(unsupported.expect("an answer"), 4);
            let query = one.manage(TaskFunction::QUERY_TASK, itt, 0).await;
            assert_eq!(query.expect("an answer"), 5);
            // ABORT TASK SET ends those of its nexus, the resets those of all.
            let mine = hanging_write(&mut one).await;
            let theirs = hanging_write(&mut two).await;
            let no_tag = wire::iscsi::NO_TAG;
            let set = TaskFunction::ABORT_TASK_SET;
            assert_eq!(one.manage(set, no_tag, 0).await.expect("an answer"), 0);
            assert_eq!(
                one.manage(abort, mine, one.cmd_sn - 1)
                    .await
                    .expect("an answer"),
                1
            );
            for function in [
                TaskFunction::CLEAR_TASK_SET,
                TaskFunction::LOGICAL_UNIT_RESET,
                TaskFunction::TARGET_WARM_RESET,
            ] {
                hanging_write(&mut one).await;
                assert_eq!(one.manage(function, no_tag, 0).await.expect("an answer"), 0);
                one.settle().await.expect("ready again");
            }
            assert_eq!(
                two.manage(abort, theirs, two.cmd_sn - 1)
                    .await
                    .expect("an answer"),
                1
            );
            two.settle().await.expect("ready again");
            let found = one.read(0, 40, BLOCK).await.expect("read");
            assert!(found.iter().all(|byte| *byte == 0), "nothing was written");
            // And the cold one ends the sessions.
            let cold = TaskFunction::TARGET_COLD_RESET;
            assert_eq!(one.manage(cold, no_tag, 0).await.expect("an answer"), 0);
            assert!(one.is_closed().await && two.is_closed().await);
        },
    );
}

#[test]
fn an_aborted_number_that_did_not_come_yet_is_ignored_when_it_does() {
    with_host(
        9,
        |_| {},
        |server| async move {
            let (mut first, mut second) = pair(server).await;
            let lost = first.cmd_sn;
            // The command behind the lost one waits.
            second.cmd_sn = lost + 1;
            let waiting = second.start([0; 16], 0, &[]).await.expect("sent");
            second.cmd_sn = lost + 2;
            let abort = TaskFunction::ABORT_TASK;
            assert_eq!(
                second.manage(abort, 4242, lost).await.expect("an answer"),
                0
            );
            assert!(
                second
                    .finish(waiting, &[])
                    .await
                    .expect("answered")
                    .is_good()
            );
            // Here it comes, too late.
            let data = block_data(5, 1);
            let itt = first.start(write10(0, 1), 0, &data).await.expect("sent");
            assert!(timeout(SECOND, first.receive_for(itt)).await.is_err());
            first.cmd_sn = lost + 2;
            let found = first.read(0, 1, BLOCK).await.expect("read");
            assert!(found.iter().all(|byte| *byte == 0));
        },
    );
}

#[test]
fn ordered_commands_are_barriers() {
    with_host(
        10,
        |_| {},
        |server| async move {
            let mut one = login(server, Wish::new()).await;
            one.settle().await.expect("ready");
            // A write that waits for its data, an ORDERED one behind it, a simple one behind that.
            let slow = block_data(1, 40);
            let wish_r2t = one.terms.clone();
            one.terms.initial_r2t = true;
            one.terms.immediate_data = false;
            let first = one.start(write10(0, 40), 0, &slow).await.expect("sent");
            one.terms = wish_r2t;
            let data = block_data(2, 1);
            let itt = start_ordered(&mut one, &data).await;
            let third = one.start([0; 16], 0, &[]).await.expect("sent");
            assert!(
                timeout(SECOND, one.receive_for(third)).await.is_err(),
                "it waits"
            );
            assert!(
                timeout(SECOND, one.receive_for(itt)).await.is_err(),
                "it waits"
            );
            assert!(one.finish(first, &slow).await.expect("answered").is_good());
            assert!(one.finish(itt, &data).await.expect("answered").is_good());
            assert!(one.finish(third, &[]).await.expect("answered").is_good());
            let found = one.read(0, 2, BLOCK).await.expect("read");
            assert!(found[..BLOCK] == data && found[BLOCK..] == slow[BLOCK..2 * BLOCK]);
        },
    );
}

#[test]
fn at_shutdown_initiators_are_asked_to_log_out() {
    let mut world = world(31);
    let server = SocketAddr::new(world.node("target"), PORT);
    let ended = Rc::new(Cell::new(false));
    let seen = ended.clone();
    world.start("target", 1, move |_| {
        let seen = seen.clone();
        async move {
            let target = Target::new(options(Directory::new())).expect("good options");
            offer(
                &target,
                volume::testing::memory_volume(BLOCKS, BLOCK as u32),
            )
            .await;
            listen(&target, 1);
            sleep(SECOND).await;
            let began = reactor::now();
            target.shutdown().await;
            assert!(
                began.elapsed() < 2 * SECOND,
                "silent initiators are not waited for for ever"
            );
            assert!(target.sessions().is_empty());
            seen.set(true);
        }
    });
    run_host(&mut world, server, |server| async move {
        let mut polite = login(server, Wish::new()).await;
        polite.settle().await.expect("ready");
        let silent = Wish {
            isid: [0x80, 0, 0, 0, 0, 9],
            ..Wish::new()
        };
        let mut silent = login(server, silent).await;
        silent.settle().await.expect("ready");
        let told = timeout(5 * SECOND, polite.receive_kind(Opcode::ASYNC_MESSAGE)).await;
        let told = told.expect("in time").expect("a message");
        let message: AsyncMessage = zerocopy::transmute!(told.bhs);
        assert_eq!(message.event, 1);
        let answer = polite.logout(LogoutReason::CLOSE_SESSION, 0).await;
        assert_eq!(answer.expect("an answer"), 0);
        assert!(polite.is_closed().await);
        assert!(silent.is_closed().await);
        let late = Initiator::login(server, Wish::new()).await;
        assert!(late.is_err(), "nobody comes in any more");
    });
    world.run_until(5 * SECOND, |_| ended.get());
}
