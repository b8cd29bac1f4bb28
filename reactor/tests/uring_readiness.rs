//! Descriptors of others, waited for in the ring of a real kernel.

mod common;

use std::io::{Read, Write, pipe};
use std::rc::Rc;
use std::time::Duration;

use common::run;
use reactor::readiness::Descriptor;
use reactor::sim::{World, WorldOptions};
use reactor::time::{sleep, timeout};

#[test]
fn a_wait_ends_when_there_is_something_to_read() {
    run(|| async {
        let (mut reader, mut writer) = pipe().unwrap();
        let descriptor = Descriptor::new(reader.try_clone().unwrap().into());
        let soon = Duration::from_millis(50);
        assert!(timeout(soon, descriptor.readable()).await.is_err());
        let other = reactor::spawn(async move {
            sleep(Duration::from_millis(20)).await;
            writer.write_all(b"x").unwrap();
            writer
        });
        descriptor.readable().await.unwrap();
        descriptor.readable().await.unwrap();
        let writer = other.await;
        let mut byte = [0];
        assert_eq!(reader.read(&mut byte).unwrap(), 1);
        assert!(timeout(soon, descriptor.readable()).await.is_err());
        drop(writer);
        descriptor.readable().await.unwrap();
    });
}

#[test]
fn a_wait_that_nobody_waits_for_holds_nothing_up() {
    run(|| async {
        let (reader, mut writer) = pipe().unwrap();
        let descriptor = Rc::new(Descriptor::new(reader.into()));
        let waiting = descriptor.clone();
        let task = reactor::spawn(async move { waiting.readable().await });
        sleep(Duration::from_millis(5)).await;
        drop(timeout(Duration::from_millis(1), descriptor.readable()).await);
        writer.write_all(b"x").unwrap();
        task.await.unwrap();
        drop(descriptor);
        // The descriptor is closed once no wait is in flight.
        let is_closed = |writer: &mut std::io::PipeWriter| writer.write_all(b"y").is_err();
        for _ in 0..200 {
            if is_closed(&mut writer) {
                return;
            }
            sleep(Duration::from_millis(5)).await;
        }
        panic!("a descriptor stays open");
    });
}

#[test]
fn a_simulated_world_has_no_descriptors() {
    let mut world = World::new(1, WorldOptions::default());
    world.run_once("node", Duration::from_secs(1), || async {
        let (reader, _writer) = pipe().unwrap();
        let error = Descriptor::new(reader.into()).readable().await.unwrap_err();
        assert_eq!(error.kind(), std::io::ErrorKind::Unsupported);
    });
}

#[test]
fn destructors_can_tell_whether_an_executor_runs() {
    assert!(!reactor::is_running());
    run(|| async { assert!(reactor::is_running()) });
    assert!(!reactor::is_running());
}
