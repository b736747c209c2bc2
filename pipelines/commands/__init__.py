"""The subcommands of `conveyor`, each imported only when it is asked for."""
