"""From YAML to a frozen, validated job."""
