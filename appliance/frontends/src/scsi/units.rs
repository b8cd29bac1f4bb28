//! The units of one core, so that EXTENDED COPY finds the other end of a copy.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use super::LogicalUnit;

/// The units of one core.
#[derive(Default)]
pub struct Units {
    units: RefCell<Vec<Weak<LogicalUnit>>>,
}

impl Units {
    /// None yet.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::default()
    }

    pub(super) fn add(&self, unit: &Rc<LogicalUnit>) {
        let mut units = self.units.borrow_mut();
        units.retain(|unit| unit.strong_count() > 0);
        units.push(Rc::downgrade(unit));
    }

    /// The first unit for which `is_it` holds.
    pub(super) fn find(&self, is_it: impl Fn(&LogicalUnit) -> bool) -> Option<Rc<LogicalUnit>> {
        let units = self.units.borrow();
        units
            .iter()
            .filter_map(Weak::upgrade)
            .find(|unit| is_it(unit))
    }
}
