//! The units of one core, so that EXTENDED COPY finds the other end of a copy.

use std::cell::RefCell;
use std::rc::{Rc, Weak};

use reactor::sync::Credits;

use super::LogicalUnit;
use super::copy::COPIES_MAX;

/// The units of one core.
pub struct Units {
    units: RefCell<Vec<Weak<LogicalUnit>>>,
    /// One for each copy at work.
    pub(super) copies: Credits,
}

impl Units {
    /// None yet.
    #[must_use]
    pub fn new() -> Rc<Self> {
        Rc::new(Self {
            units: RefCell::default(),
            copies: Credits::new(COPIES_MAX),
        })
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
