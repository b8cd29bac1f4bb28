//! Task management functions: whose tasks end, how, and who hears of it.

use super::super::{Function, Managed};
use super::*;

async fn with_tasks(stage: &Stage, function: Function) -> Managed {
    for end in [&stage.a, &stage.b] {
        end.port.tasks.set(3);
        end.port.looks.set(5);
        end.port.causes.borrow_mut().clear();
    }
    stage.a.nexus.manage(LUN, function).await
}

fn causes(end: &End) -> Vec<AbortCause> {
    end.port.causes.borrow().clone()
}

#[test]
fn abort_task_set_ends_the_own_tasks_only() {
    run(|stage| async move {
        let done = with_tasks(&stage, Function::AbortTaskSet).await;
        assert_eq!(done, Managed::Complete);
        assert_eq!(causes(&stage.a), [AbortCause::Own]);
        assert_eq!(
            stage.a.port.looks.get(),
            0,
            "it waited until they were settled"
        );
        assert_eq!(causes(&stage.b), []);
        stage.a.good(&[0; 6]).await;
        stage.b.good(&[0; 6]).await;
    });
}

#[test]
fn clear_task_set_is_told_to_those_who_lost_tasks() {
    run(|stage| async move {
        let c = attach(&stage.unit, "c", 1);
        assert!(c.command(&[0; 6]).await.sense.is_some());
        with_tasks(&stage, Function::ClearTaskSet).await;
        assert_eq!(causes(&stage.a), [AbortCause::Own]);
        assert_eq!(causes(&stage.b), [AbortCause::Other]);
        assert_eq!(stage.b.port.looks.get(), 0);
        assert_eq!(code(stage.b.refused(&[0; 6]).await), (0x6, 0x2f00));
        stage.a.good(&[0; 6]).await;
        // It had no tasks.
        c.good(&[0; 6]).await;
    });
}

#[test]
fn tasks_with_a_status_need_no_unit_attention() {
    run(|stage| async move {
        let mut control = super::mode::control(&stage.a).await;
        control[5] |= 0x40;
        super::mode::select(&stage.a, &control).await;
        assert_eq!(code(stage.b.refused(&[0; 6]).await), (0x6, 0x2a01));
        assert!(stage.b.nexus.reports_aborted_tasks());
        with_tasks(&stage, Function::ClearTaskSet).await;
        stage.b.good(&[0; 6]).await;
    });
}

#[test]
fn resets_end_everything_and_are_told_to_everyone() {
    run(|stage| async move {
        for function in [
            Function::LogicalUnitReset,
            Function::TargetWarmReset,
            Function::TargetColdReset,
        ] {
            stage.a.good(&[0x16, 0, 0, 0, 0, 0]).await;
            stage.a.good(&[0x1e, 0, 0, 0, 1, 0]).await;
            stage.a.good(&[0x1b, 0, 0, 0, 0, 0]).await;
            let mut control = super::mode::control(&stage.a).await;
            control[4] |= 0x08;
            super::mode::select(&stage.a, &control).await;
            assert_eq!(with_tasks(&stage, function).await, Managed::Complete);
            assert_eq!(causes(&stage.b), [AbortCause::Other], "{function:?}");
            for end in [&stage.a, &stage.b] {
                assert_eq!(end.port.looks.get(), 0);
                assert_eq!(code(end.refused(&[0; 6]).await), (0x6, 0x2903));
                end.good(&[0; 6]).await;
            }
            assert!(!stage.a.nexus.prevents_removal.get());
            stage.b.good_out(&rw16(0x8a, 0, 0, 1), &[1; 512]).await;
        }
    });
}

#[test]
fn functions_for_units_that_are_not_there_do_nothing() {
    run(|stage| async move {
        let lun = [0, 1, 0, 0, 0, 0, 0, 0];
        for function in [
            Function::AbortTaskSet,
            Function::ClearTaskSet,
            Function::LogicalUnitReset,
        ] {
            let done = stage.a.nexus.manage(lun, function).await;
            assert_eq!(done, Managed::NoSuchUnit);
        }
        assert_eq!(causes(&stage.a), []);
        let done = stage.a.nexus.manage(lun, Function::TargetWarmReset).await;
        assert_eq!(done, Managed::Complete);
    });
}
