# After a removal ($1 is 0) or an upgrade (1).
journalctl --update-catalog >/dev/null 2>&1 || :
if [ -d /run/systemd/system ]; then
	systemctl daemon-reload || :
fi
if [ "$1" -eq 0 ]; then
	[ "$(readlink /usr/bin/sersync2)" != sersync ] || rm -f /usr/bin/sersync2
	# Only if the administrator has left nothing in them. The package cannot own a directory.
	rmdir /etc/sersync /usr/share/doc/sersync/examples /usr/share/doc/sersync 2>/dev/null || :
fi
