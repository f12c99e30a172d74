"""What several tests share: targets, sites, processes and databases to try the library on."""
