//! An account with everything that has ever broken a migration.
