# Counts what cargo test printed. A skipped test counts as passed for cargo: its line in the file `skipped` takes it out again.
/^test result: / {
    for (i = 1; i < NF; i++) {
        if ($(i + 1) ~ /^passed/) passed += $i
        if ($(i + 1) ~ /^failed/) failed += $i
        if ($(i + 1) ~ /^ignored/) ignored += $i
    }
}
/^test .* \.\.\. FAILED/ { names[++count] = $2 }
# A suite that does not compile, or dies without a result. Cargo's summary of failed tests is neither.
/^error(\[|:)/ && !/test failed|targets? failed/ { errors[++broken] = $0 }
/process didn't exit successfully/ && /signal/ { errors[++broken] = $0 }
END {
    while ((getline line < skipped) > 0) { print line; skips++ }
    for (i = 1; i <= count; i++) print "FAILED " names[i]
    for (i = 1; i <= broken; i++) print errors[i]
    if (passed + failed == 0) { print "no test ran"; bad = 1 }
    printf "%d passed, %d failed, %d skipped\n", passed - skips, failed, skips + ignored
    exit (failed > 0 || broken > 0 || bad)
}
