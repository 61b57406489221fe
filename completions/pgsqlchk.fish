# Completion of pgsqlchk for fish. The options and what they mean come from pgsqlchk --help, so they are those of the
# program installed.

complete -c pgsqlchk -f
complete -c pgsqlchk -n __fish_is_first_token -a 'standalone xinetd check drain undrain cluster doctor'

for line in (pgsqlchk --help 2>/dev/null | string match -r '^ +--.*')
    # Name, placeholder of the value (none for a switch), meaning.
    set -l part (string match -r '^ +--([a-z-]+) ([A-Z:=]*) *(.*)$' -- $line)
    switch $part[2]
        case mode
            complete -c pgsqlchk -l mode -x -d $part[4] -a 'standalone xinetd check drain undrain cluster doctor'
        case log-level
            complete -c pgsqlchk -l log-level -x -d $part[4] -a 'error warn info debug'
        case log-target
            complete -c pgsqlchk -l log-target -x -d $part[4] -a 'stderr syslog none'
        case protocol
            complete -c pgsqlchk -l protocol -x -d $part[4] -a 'http agent'
        case target root-path
            complete -c pgsqlchk -l $part[2] -x -d $part[4] \
                -a '/ /primary /read-write /replica /read-only /synchronous /asynchronous /quorum /read-only-sync' \
                -a '/read-only-quorum /standby-leader /health /readiness /liveness'
        case instance
            complete -c pgsqlchk -l instance -x -d $part[4] \
                -a "(path basename /etc/pgsqlchk/*.conf 2>/dev/null | string replace -r '\.conf\$' '')"
        case config drain-file tls-cert tls-key tls-client-ca peer-ca
            complete -c pgsqlchk -l $part[2] -r -F -d $part[4]
        case '*'
            if test -n "$part[3]"
                complete -c pgsqlchk -l $part[2] -x -d $part[4]
            else
                complete -c pgsqlchk -l $part[2] -d $part[4]
            end
    end
end
