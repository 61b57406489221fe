# --- What prerm and postrm know of an exchange for the other flavour (packaging/deb/exchange.sh) ---

# Whether that is under way. dpkg says so where it removes this package itself. apt has it removed before the other is
# unpacked; but its history says what else it is about to do: the last paragraph, which has no end yet.
is_exchanged() {
    if [ "${2-}" = in-favour ]; then
        [ "${3-}" = @other@ ]
        return
    fi
    [ "${DPKG_FRONTEND_LOCKED-}" ] || return 1
    history=/var/log/apt/history.log
    eval "$(apt-config shell history Dir::Log::History/f 2>/dev/null)"
    [ -f "$history" ] || return 1
    awk -v other=@other@ '
        BEGIN { RS = "" }
        { last = $0 }
        END {
            goes_on = last !~ /\nEnd-Date:/
            comes = last ~ "\n(Install|Reinstall|Upgrade|Downgrade): ([^\n]* )?" other ":"
            exit !(goes_on && comes)
        }' "$history"
}

kept_program=/usr/bin/.pgsqlchk-during-exchange

# For those who start a process for each check, meanwhile; dpkg removes the file, and the other package overwrites it.
keep_program() {
    ln -f /usr/bin/pgsqlchk $kept_program || true
}

put_program_back() {
    [ ! -e $kept_program ] || [ -e /usr/bin/pgsqlchk ] || mv $kept_program /usr/bin/pgsqlchk
    rm -f $kept_program
}
# --- Up to here ---
