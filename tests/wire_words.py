"""What the two peers of the network test share with the test."""

#: What must not leave.
CANARY = "Doe^Jane"

#: Numbers in a vector: enough for the engine to send it in pieces, on request.
LENGTH = 1_000_000
