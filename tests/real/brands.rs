//! Old sides of other brands than Dovecot: the whole way of a user, with what is particular to each.

mod courier;
