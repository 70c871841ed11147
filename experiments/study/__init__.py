"""Many runs as one study: arms, claims, statistics, verdicts and a report."""
