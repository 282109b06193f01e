# What zsh asks `./run_all.sh` for when Tab is pressed; `./run_all.sh --install-completion` says how to use it.
_run_all_sh_completion() {
    eval "$(env _RUN_ALL_SH_COMPLETE=complete_zsh _TYPER_COMPLETE_ARGS="${words[1,$CURRENT]}" \
        "${words[1]}" 2>/dev/null)"
}
(( $+functions[compdef] )) || { autoload -Uz compinit; compinit }
compdef _run_all_sh_completion run_all.sh
