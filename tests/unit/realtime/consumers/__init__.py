"""The consumer over both kinds of connection, without a server: the same promises on either."""
