#!/bin/bash
# The shell script that such checks were made of before, as it went round: psql, a comparison, headers with echo.
# Kept as the yardstick of `make bench`, weak points included: it does not read the request, so the reply can be
# lost to a reset; and it has no deadline. echo is bash's own: the variants with /bin/echo start five processes more.
# PSQL names the program; libpq's variables say where PostgreSQL is.

VALUE=$("${PSQL:-/usr/bin/psql}" -tA -c "SELECT pg_is_in_recovery()" 2>/dev/null)

if [ "$VALUE" == "f" ]; then
    echo -e "HTTP/1.1 200 OK\r"
    echo -e "Content-Type: text/plain\r"
    echo -e "Connection: close\r"
    echo -e "\r"
    echo "Primary"
elif [ "$VALUE" == "t" ]; then
    echo -e "HTTP/1.1 206 OK\r"
    echo -e "Content-Type: text/plain\r"
    echo -e "Connection: close\r"
    echo -e "\r"
    echo "Standby"
else
    echo -e "HTTP/1.1 503 Service Unavailable\r"
    echo -e "Content-Type: text/plain\r"
    echo -e "Connection: close\r"
    echo -e "\r"
    echo "DB Down"
fi
exit 0
