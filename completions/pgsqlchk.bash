# Completion of pgsqlchk for bash. The options come from pgsqlchk --help, so they are those of the program installed.

_pgsqlchk() {
    # readline splits words at "=", which this undoes.
    local current=${COMP_WORDS[COMP_CWORD]} previous=${COMP_WORDS[COMP_CWORD - 1]} words
    if [[ $current == = ]]; then
        current=
    elif [[ $previous == = ]]; then
        previous=${COMP_WORDS[COMP_CWORD - 2]}
    fi
    COMPREPLY=()
    case $previous in
    --mode) words="standalone xinetd check drain undrain cluster doctor" ;;
    --log-level) words="error warn info debug" ;;
    --log-target) words="stderr syslog none" ;;
    --protocol) words="http agent" ;;
    --target | --root-path)
        words="/ /primary /read-write /replica /read-only /synchronous /asynchronous /quorum /read-only-sync"
        words+=" /read-only-quorum /standby-leader /health /readiness /liveness"
        ;;
    --instance)
        words=$(find /etc/pgsqlchk -maxdepth 1 -name '*.conf' -printf '%f\n' 2>/dev/null | sed 's/\.conf$//')
        [[ $words ]] || return
        ;;
    --config | --drain-file | --tls-cert | --tls-key | --tls-client-ca | --peer-ca)
        compopt -o filenames 2>/dev/null
        mapfile -t COMPREPLY < <(compgen -f -- "$current")
        return
        ;;
    --version | --help) return ;;
    --*)
        # An option whose value nobody can guess, or one that is being typed.
        if [[ $current != --* ]]; then
            return
        fi
        ;;
    esac
    if [[ -z ${words-} ]]; then
        words=$("${COMP_WORDS[0]}" --help 2>/dev/null | sed -n 's/^ *\(--[a-z-]*\) .*/\1/p')
        if ((COMP_CWORD == 1)); then
            words+=" standalone xinetd check drain undrain cluster doctor"
        fi
    fi
    mapfile -t COMPREPLY < <(compgen -W "$words" -- "$current")
}
complete -F _pgsqlchk pgsqlchk
