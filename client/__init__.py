"""What users call. Everything public is exported by `holdall` itself."""
