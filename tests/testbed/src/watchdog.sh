# Keeps a server for as long as its owner lives, in the server's folder. Standard input is a pipe that the owner holds:
# a line starts the server (again); its end, also by the owner's violent death, ends the server and removes the folder.
#
#   $1    the folder
#   $2    the signal that ends the server
#   $3    files elsewhere that go with the folder
#   $4    what to do when the server is gone, in shell
#   rest  the server's command
#
# Files: `pid` while a start is under way or done, `exited` with the code when the server is gone, `log`. Before a start the
# owner removes the first two.
folder=$1 signal=$2 litter=$3 last_act=$4
shift 4

while read -r _; do
  # A session of its own, so that one signal reaches whatever the server started.
  { setsid sh -c 'echo $$ >pid; exec "$@"' sh "$@"; echo $? >exited; } </dev/null >>log 2>&1 &
  until [ -s pid ] || [ -e exited ]; do sleep 0.01; done
done

if [ ! -e exited ] && read -r pid <pid; then
  kill -s "$signal" "$pid"
  tries=100
  while [ ! -e exited ] && [ $tries -gt 0 ]; do
    sleep 0.1
    tries=$((tries - 1))
  done
  kill -s KILL -- "-$pid"
fi
sh -c "$last_act" </dev/null >>log 2>&1
cd /
rm -f $litter
rm -rf "$folder" || { sleep 1; rm -rf "$folder"; } # what was killed may still have been writing
