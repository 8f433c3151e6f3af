"""How an operation's requests travel: sessions, the two drivers, and their transports."""
