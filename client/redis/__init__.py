"""The engine for a server, or a cluster, that speaks Redis' protocol: the messages of a session, carried out by its scripts.

A transport (`transport`) takes the same messages as the one to a broker. It makes each request a command (`translate`), sends
that to the node that has its slot (`node`, `topology`), and makes each answer a reply; what a refusal means is in `verdict`.
Everything above the seam, `holdall.client.connection.transport`, knows nothing of it.
"""
