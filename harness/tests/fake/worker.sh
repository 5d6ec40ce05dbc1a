#!/bin/sh
# A worker that does what FAKE says, for the driver's tests. Reference answers are always right.
read -r request
sample='[[0,1065353216]]'
answer='"digest":"d","argmax":1,"vocab":1,"sample":'$sample
case "$request" in
*'"mode":"answer"'*) echo '{"event":"answer",'"$answer"'}'; exit 0 ;;
esac
compare='{"against":"scalar reference","relative_rms_ppb":0,"bound_ppb":0,"pass":PASS}'
for engine in f16 ternary; do
    case "$request" in
    *'"pair '$engine'"'*) bound=$(echo "$request" | sed 's/.*"bound_ppb":\([1-9][0-9]*\).*/\1/')
        compare="$compare"',{"against":"pair '$engine'","relative_rms_ppb":0,"bound_ppb":'$bound',"pass":true}' ;;
    esac
done
pass=true
kind=$(cat "$0.kind" 2>/dev/null)
[ "$kind" = wrong ] && pass=false
compare=$(echo "$compare" | sed "s/PASS/$pass/")
check='{"digest":"d","argmax":1,"comparisons":['"$compare"']}'
echo '{"event":"started","pid":1,"profile":"dev"}'
echo '{"event":"loaded","load_ns":1}'
echo 'prose on stderr' >&2
case "$kind" in
garbage) echo 'Segmentation fault? no, hello'; sleep 30 ;;
hang) sleep 30 ;;
killed) kill -9 $$ ;;
code) exit 3 ;;
half) printf '{"event":"do'; exit 0 ;;
halfkilled) printf '{"event":"do'; kill -9 $$ ;;
huge) yes x | tr -d '\n' ;;
silent) exit 0 ;;
failed) echo '{"event":"failed","stage":"load","message":"no such model","check":null}'; exit 1 ;;
esac
echo '{"event":"checked","check":'"$check"'}'
sample='{"tokens":16,"duration_ns":1000000,"ttft_ns":null,"token_ns":[62500]}'
samples=$sample
case "$*" in
*--turns*)
    samples=
    echo '{"event":"ready"}'
    while read -r turn; do
        samples="$samples${samples:+,}$sample"
        echo '{"event":"ready"}'
    done ;;
esac
echo '{"event":"done","ran":{"isa":"avx2","linear":"f16","head":"f16","kv":"f16","profile":"dev","pinned":true},"load_ns":1,"samples":['"$samples"'],"footprint":{"weights_bytes":1,"linear_bytes":1,"read_per_token_bytes":1,"kv_bytes":1},"memory":{"peak_rss_bytes":1,"rss_anon_bytes":1,"rss_file_bytes":1,"predicted_bytes":1},"energy":{"kind":"unavailable","reason":"fake"},"counters":[],"check":'"$check"',"interference":{"steal_ns":null,"involuntary_switches":null,"load_milli":null}}'
