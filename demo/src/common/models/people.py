from django.contrib.auth.models import AbstractUser
from django.db import models


class User(AbstractUser):
    """Someone with an account. Nobody signs in before being approved."""

    USER_TYPES = [
        ("admin", "Administrator"),
        ("oobc_staff", "OOBC Staff"),
        ("bmoa", "BARMM Ministry, Agency or Office"),
        ("lgu", "Local Government Unit"),
        ("nga", "National Government Agency"),
        ("community_leader", "Community Leader"),
        ("researcher", "Researcher"),
    ]

    user_type = models.CharField(max_length=20, choices=USER_TYPES)
    organization = models.CharField(max_length=255, blank=True)
    position = models.CharField(max_length=255, blank=True)
    contact_number = models.CharField(max_length=20, blank=True)
    is_approved = models.BooleanField(default=False)
    approved_by = models.ForeignKey(
        "self", models.SET_NULL, null=True, blank=True, related_name="approved_users"
    )
    approved_at = models.DateTimeField(null=True, blank=True)

    class Meta:
        db_table = "auth_user"

    @property
    def may_sign_in(self) -> bool:
        return self.is_active and (self.is_approved or self.is_superuser)


class StaffTeam(models.Model):
    name = models.CharField(max_length=150, unique=True)
    description = models.TextField(blank=True)
    is_active = models.BooleanField(default=True)

    class Meta:
        ordering = ["name"]

    def __str__(self) -> str:
        return self.name


class StaffTeamMembership(models.Model):
    ROLE_CHOICES = [("lead", "Team Lead"), ("coordinator", "Coordinator"), ("member", "Member")]

    team = models.ForeignKey(StaffTeam, models.CASCADE, related_name="memberships")
    user = models.ForeignKey(User, models.CASCADE, related_name="team_memberships")
    role = models.CharField(max_length=20, choices=ROLE_CHOICES, default="member")
    is_active = models.BooleanField(default=True)

    class Meta:
        constraints = [
            models.UniqueConstraint(fields=["team", "user"], name="one_membership_per_team")
        ]

    def __str__(self) -> str:
        return f"{self.user} in {self.team}"
