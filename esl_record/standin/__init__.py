"""A stand-in for FreeSWITCH: speaks its event socket and writes its spool, for the demo and the tests only."""
