"""What an op is, without saying how it is computed.

`OPS` holds every op that a graph may contain; the runtime has one kernel for each digital one.
"""
