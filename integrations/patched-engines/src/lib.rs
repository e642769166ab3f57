//! Crash tests of released engines that use `std::fs`: see tests/.
