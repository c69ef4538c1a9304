"""The only place with threads, sockets and loops: the live service and the offline analysis."""
