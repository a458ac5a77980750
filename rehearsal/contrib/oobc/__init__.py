"""What only the OOBC's management system has: its workflows, tasks, bookings and notifications."""
