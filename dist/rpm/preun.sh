# Before a removal ($1 is 0); an upgrade (1) leaves the instances running, post restarts them.
if [ "$1" -eq 0 ] && [ -d /run/systemd/system ]; then
	systemctl stop sersync.target 'sersync@*.service' 'sersync2-*.service' || :
fi
