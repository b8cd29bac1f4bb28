//! Queues whose controller is on their core.

use super::*;

async fn attached(target: &Target) -> (HostEnd, HostEnd) {
    let admin = HostEnd::connect(target, request(0, ANY)).await;
    let admin = admin.expect("the host may connect");
    assert_eq!(admin.configure(1).await, Status::SUCCESS);
    let io = HostEnd::connect(target, request(1, admin.result as u16)).await;
    (admin, io.expect("the controller is ready"))
}

#[test]
fn data_is_fetched_by_key_and_answers_carry_the_command() {
    run(0, |target, _| async move {
        let (_admin, io_queue) = attached(&target).await;
        let write = io(NvmOpcode::WRITE, 1, 3, keyed(BLOCK));
        io_queue.send(write, None).expect("there is room");
        let fetch = io_queue.fetch().await;
        let slot_sqe = io_queue.queue.table.borrow().slot(fetch.index).sqe;
        assert_eq!(slot_sqe.sgl(), Ok(keyed(BLOCK)), "says where from");
        io_queue.fill(fetch, 0xa5);
        assert!(io_queue.answer(1).await.cqe.status().is_success());
        let read = io_queue.run(io(NvmOpcode::READ, 2, 3, keyed(BLOCK))).await;
        assert_eq!(read.sqe.sgl(), Ok(keyed(BLOCK)), "says where to");
        let data = read.data.expect("a read has data");
        assert!(data.len() == BLOCK && data.iter().all(|byte| *byte == 0xa5));
    });
}

#[test]
fn data_in_the_capsule_is_written_as_it_came() {
    run(0, |target, _| async move {
        let (_admin, io_queue) = attached(&target).await;
        let mut capsule = reactor::buf::alloc(BLOCK).await;
        capsule.as_mut().fill(0x5a);
        let sgl = Sgl::InCapsule {
            offset: 0,
            len_bytes: BLOCK as u32,
        };
        let write = io(NvmOpcode::WRITE, 1, 0, sgl);
        io_queue.send(write, Some(capsule)).expect("there is room");
        assert!(io_queue.answer(1).await.cqe.status().is_success());
        let read = io_queue.run(io(NvmOpcode::READ, 2, 0, keyed(BLOCK))).await;
        let data = read.data.expect("a read has data");
        assert!(data.iter().all(|byte| *byte == 0x5a));
    });
}

#[test]
fn pointers_of_another_transport_are_refused() {
    run(0, |target, _| async move {
        let (_admin, io_queue) = attached(&target).await;
        let len_bytes = BLOCK as u32;
        let address = 0x7000;
        for sgl in [
            Sgl::Transport { len_bytes },
            Sgl::DataBlock { address, len_bytes },
        ] {
            for opcode in [NvmOpcode::READ, NvmOpcode::WRITE] {
                let refused = io_queue.status(io(opcode, 1, 0, sgl)).await;
                assert_eq!(refused, Status::SGL_TYPE_INVALID);
            }
        }
        let short = io_queue.status(io(NvmOpcode::READ, 1, 0, keyed(512))).await;
        assert_eq!(short, Status::SGL_DATA_LENGTH_INVALID);
    });
}

#[test]
fn a_fetch_that_fails_or_comes_too_late_changes_nothing_else() {
    run(0, |target, _| async move {
        let (_admin, io_queue) = attached(&target).await;
        let queue = &io_queue.queue;
        let write = |cid| io(NvmOpcode::WRITE, cid, 0, keyed(BLOCK));
        // It fails.
        io_queue.send(write(1), None).expect("there is room");
        let fetch = io_queue.fetch().await;
        let buf = io_queue.take_buffer(fetch);
        queue.fetched(fetch.index, fetch.serial, buf, false);
        let failed = io_queue.answer(1).await.cqe.status().code();
        assert_eq!(failed, Status::TRANSIENT_TRANSPORT_ERROR);
        // It is aborted while its data is read from the host, and answered when that is over.
        io_queue.send(write(2), None).expect("there is room");
        let late = io_queue.fetch().await;
        let buf = io_queue.take_buffer(late);
        assert!(queue.abort_command(2));
        assert!(!queue.abort_command(2), "it is aborted already");
        assert!(
            queue.link.answers.borrow().is_empty(),
            "its memory is in use"
        );
        let again = io_queue.status(write(2)).await;
        assert_eq!(again, Status::COMMAND_ID_CONFLICT, "and its identifier");
        queue.fetched(late.index, late.serial, buf, true);
        let aborted = io_queue.answer(2).await.cqe.status().code();
        assert_eq!(aborted, Status::ABORTED_BY_REQUEST);
        // Its slot is used again, and what still comes for the last use does nothing.
        for cid in 10..18 {
            io_queue.send(write(cid), None).expect("there is room");
        }
        let fetches: Vec<Fetch> = queue.link.fetches.take().into();
        let same = fetches.iter().find(|fetch| fetch.index == late.index);
        assert_ne!(same.expect("all slots are used").serial, late.serial);
        queue.fetched(late.index, late.serial, None, true);
        assert!(queue.link.answers.borrow().is_empty(), "nothing happened");
        for fetch in fetches {
            io_queue.fill(fetch, 1);
        }
        for cid in 10..18 {
            assert!(io_queue.answer(cid).await.cqe.status().is_success());
        }
        assert_eq!(queue.table.borrow().used().count(), 0);
        assert_eq!(queue.held_bytes.get(), 0);
    });
}
