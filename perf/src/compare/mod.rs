//! placeholder
use crate::cli::CompareArgs;
use crate::error::PerfError;
pub fn run(_args: &CompareArgs) -> Result<(), PerfError> {
    Ok(())
}
