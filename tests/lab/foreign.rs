//! Judges that share no code with us.
