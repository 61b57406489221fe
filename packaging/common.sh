# --- What the scripts of both packages share (packaging/common.sh) ---

# Once the template of one process per check was pgsqlchk@.service, and enabling its socket made a link of the name that the
# socket looks for. Now there is a template of that name, and pgsqlchk@.service is for instances.
inetd_link=/etc/systemd/system/pgsqlchk-inetd@.service
inetd_mark="# The template of the version before, while pgsqlchk is upgraded."
# The same while one flavour is removed and the other one not there yet.
inetd_meanwhile=/run/systemd/system/pgsqlchk-inetd@.service

# Whether it is the link of `systemctl enable`, and not the administrator's own.
is_inetd_link() {
    [ -L "$inetd_link" ] || return 1
    case $(readlink "$inetd_link") in
    /lib/systemd/system/pgsqlchk@.service | /usr/lib/systemd/system/pgsqlchk@.service) ;;
    *) return 1 ;;
    esac
}

# Before the new files: a copy takes the place of the link, so that no check is started from a template for instances. What
# the administrator had changed comes along.
keep_inetd_template() {
    is_inetd_link || return 0
    for file in /etc/systemd/system/pgsqlchk@.service.d/*; do
        [ -e "$file" ] || continue
        new=/etc/systemd/system/pgsqlchk-inetd@.service.d/${file##*/}
        if [ -e "$new" ]; then
            echo "pgsqlchk: $file is for instances now; for one process per check there is $new" >&2
            continue
        fi
        mkdir -p "${new%/*}"
        mv "$file" "$new"
        echo "pgsqlchk: $file is now $new: one process per check has a template of its own" >&2
    done
    rmdir /etc/systemd/system/pgsqlchk@.service.d 2>/dev/null || true
    # Removed before, and not purged: it leads nowhere.
    [ -e "$inetd_link" ] || { rm -f "$inetd_link" && return 0; }
    copy_inetd_template "$inetd_link" "$inetd_link"
    # From here on checks are started from the copy. Those that have begun are units of the link's target, which will be a
    # template for instances: what has not come to its program by then would start that. RuntimeMaxSec= ends them at last.
    tenths=0
    while [ -n "$(systemctl list-units --no-legend 'pgsqlchk@*.service' 2>/dev/null)" ] && [ "$tenths" -lt 300 ]; do
        sleep 0.1
        tenths=$((tenths + 1))
    done
}

# Has systemd start checks from a copy of the template $1, in $2.
copy_inetd_template() {
    { echo "$inetd_mark" && cat "$1"; } >"$2.new" || return 0
    chmod 644 "$2.new"
    mv -f "$2.new" "$2"
    [ ! -d /run/systemd/system ] || systemctl daemon-reload || true
}

# With the new files: the package's own template. One that vanishes between systemd's looking it up and opening it closes the
# socket for good, too; so the name leads to the new one until systemd has looked again.
take_inetd_template() {
    for copy in "$inetd_link" "$inetd_meanwhile"; do
        [ -f "$copy" ] && [ "$(head -n 1 "$copy")" = "$inetd_mark" ] || continue
        if [ -d /run/systemd/system ]; then
            ln -s -f "$(packaged_inetd_template)" "$copy.new"
            mv -f "$copy.new" "$copy"
            systemctl daemon-reload || true
        fi
        rm -f "$copy"
    done
}

packaged_inetd_template() {
    for file in /usr/lib/systemd/system/pgsqlchk-inetd@.service /lib/systemd/system/pgsqlchk-inetd@.service; do
        [ ! -e "$file" ] || break
    done
    echo "$file"
}

# What enabling a socket means has grown since it was enabled: the service asks for it.
enable_sockets_again() {
    for socket in pgsqlchk.socket pgsqlchk-agent.socket; do
        if [ "$(systemctl is-enabled "$socket" 2>/dev/null)" = enabled ]; then
            systemctl --quiet enable "$socket" || true
        fi
    done
}

# Those of the units that run whose program has been replaced: the service, and instances.
running_services() {
    for config in pgsqlchk.service /etc/pgsqlchk/*.conf; do
        unit=${config##*/}
        [ "$unit" = pgsqlchk.service ] || unit=pgsqlchk@${unit%.conf}.service
        if systemctl --quiet is-active "$unit" 2>/dev/null; then
            echo "$unit"
        fi
    done
}

# An agent of xinetd with wait = yes stays for as long as there are checks: the old program, for ever. Told to end, it
# finishes what is under way; the port is xinetd's, and the next check starts the new program. A process that serves one
# check does not wait for SIGTERM (bit 14 of what it catches), ends by itself, and is left alone.
end_older_agents_of_xinetd() {
    for process in /proc/[0-9]*; do
        if [ "$(readlink "$process/exe")" = "/usr/bin/pgsqlchk (deleted)" ] &&
            grep -Eq '^SigCgt:.*[4-7c-f][0-9a-f]{3}$' "$process/status" &&
            tr '\0' ' ' <"$process/cmdline" | grep -Eq -e '--mode[ =]xinetd'; then
            kill "${process#/proc/}" || true
        fi
    done 2>/dev/null
}

# The shell script that came before, or another program of this name, which the shell would find first.
name_older_programs() {
    for program in /usr/local/sbin/pgsqlchk /usr/local/bin/pgsqlchk /usr/sbin/pgsqlchk; do
        if [ -e "$program" ] && [ "$(readlink -f "$program")" != "$(readlink -f /usr/bin/pgsqlchk)" ]; then
            echo "pgsqlchk: $program comes before /usr/bin/pgsqlchk in PATH, and is another program: see \`type -a pgsqlchk\`," \
                "and /usr/share/doc/pgsqlchk/docs/moving.md" >&2
        fi
    done
    for service in /etc/xinetd.d/*; do
        [ -f "$service" ] || continue
        server=$(sed -n 's/^[[:space:]]*server[[:space:]]*=[[:space:]]*\([^[:space:]]*\).*/\1/p' "$service")
        case $server in
        */*pgsqlchk*)
            if [ "$(head -c 2 "$server" 2>/dev/null)" = "#!" ]; then
                echo "pgsqlchk: $service starts the script $server, and goes on doing so" >&2
            fi
            ;;
        esac
    done
}
# --- Up to here ---
