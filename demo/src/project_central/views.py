from django.contrib import messages
from django.contrib.auth.decorators import login_required
from django.core.exceptions import ValidationError
from django.db.models import Count, Q, QuerySet
from django.http import HttpRequest, HttpResponse
from django.shortcuts import get_object_or_404, redirect, render
from django.views.decorators.http import require_http_methods, require_POST, require_safe

from common.faults import planted
from common.models import StaffTask, TaskTemplate
from common.services.resource_bookings import ResourceBookingSpecError
from common.services.task_automation import create_tasks_from_template
from project_central.forms import WorkflowForm
from project_central.models import ProjectWorkflow


@login_required
@require_safe
def project_list(request: HttpRequest) -> HttpResponse:
    workflows = ProjectWorkflow.objects.select_related("primary_need", "ppa", "project_lead")
    return render(
        request,
        "project_central/project_list.html",
        {"workflows": workflows.annotate(task_count=Count("tasks"))},
    )


@login_required
@require_safe
def project_workflow_detail(request: HttpRequest, workflow_id: str) -> HttpResponse:
    workflow = get_object_or_404(
        ProjectWorkflow.objects.select_related("primary_need", "ppa", "project_lead"),
        pk=workflow_id,
    )
    if planted("workflow page broken"):
        raise LookupError("planted")
    return render(
        request,
        "project_central/project_workflow_detail.html",
        {
            "workflow": workflow,
            "tasks": workflow.tasks.select_related(
                "linked_workflow__primary_need", "related_ppa"
            ).prefetch_related("assignees"),
        },
    )


@login_required
@require_http_methods(["GET", "HEAD", "POST"])
def create_project_workflow(request: HttpRequest) -> HttpResponse:
    form = WorkflowForm(request.POST or None)
    if request.method == "POST" and form.is_valid():
        form.instance.project_lead = form.instance.created_by = request.user
        return redirect(form.save())
    return render(request, "project_central/workflow_form.html", {"form": form})


@login_required
@require_safe
def my_tasks_with_projects(request: HttpRequest) -> HttpResponse:
    """The user's tasks that have a project behind them; the table alone when htmx asks."""
    tasks = _filtered(
        StaffTask.objects.of(request.user).exclude(linked_workflow=None, related_ppa=None),
        request,
    ).select_related("linked_workflow__primary_need", "related_ppa")
    context = {"tasks": list(tasks.prefetch_related("assignees"))}
    context["summary"] = {
        "total": len(context["tasks"]),
        "overdue": sum(task.is_overdue for task in context["tasks"]),
        "in_progress": sum(
            task.status == StaffTask.STATUS_IN_PROGRESS for task in context["tasks"]
        ),
        "completed": sum(task.status == StaffTask.STATUS_COMPLETED for task in context["tasks"]),
    }
    if request.htmx:
        return render(request, "project_central/partials/project_task_table.html", context)
    context["filters"] = [
        ("status", "Status", StaffTask.STATUS_CHOICES, request.GET.get("status", "")),
        ("stage", "Stage", ProjectWorkflow.WORKFLOW_STAGES, request.GET.get("stage", "")),
        ("domain", "Domain", StaffTask.DOMAIN_CHOICES, request.GET.get("domain", "")),
    ]
    return render(request, "project_central/my_tasks.html", context)


def _filtered(tasks: QuerySet[StaffTask], request: HttpRequest) -> QuerySet[StaffTask]:
    """Apply status, stage, domain, overdue=1 and q; a value nothing has leaves nothing."""
    if status := request.GET.get("status"):
        tasks = tasks.filter(status=status)
    if (stage := request.GET.get("stage")) and not planted("filter ignored"):
        tasks = tasks.filter(linked_workflow__current_stage=stage)
    if domain := request.GET.get("domain"):
        tasks = tasks.filter(domain=domain)
    if request.GET.get("overdue") == "1":
        tasks = tasks.overdue()
    if words := request.GET.get("q", "").strip():
        tasks = tasks.filter(
            Q(title__icontains=words)
            | Q(description__icontains=words)
            | Q(linked_workflow__primary_need__title__icontains=words)
            | Q(related_ppa__title__icontains=words)
        )
    return tasks


@login_required
@require_POST
def generate_workflow_tasks(request: HttpRequest, workflow_id: str) -> HttpResponse:
    """Create the tasks of the workflow's stage, once, however often it is asked."""
    workflow = get_object_or_404(
        ProjectWorkflow.objects.select_related("primary_need", "ppa"), pk=workflow_id
    )
    name = workflow.template_name
    bookings = None
    if request.GET.get("auto_resource") == "1":
        bookings = {1: {"resource_name": request.GET.get("resource_name"), "duration_hours": 2}}
    try:
        tasks = create_tasks_from_template(
            name,
            created_by=request.user,
            auto_generated=True,
            resource_bookings=bookings,
            linked_workflow=workflow,
            related_ppa=workflow.ppa,
        )
    except (ResourceBookingSpecError, ValidationError) as error:
        reasons = error.messages if isinstance(error, ValidationError) else [str(error)]
        messages.error(request, f"No tasks were created. {' '.join(reasons)}")
        return redirect(workflow)
    if tasks:
        messages.success(request, f"Created {len(tasks)} tasks from {name}.")
    elif TaskTemplate.objects.filter(name=name, is_active=True).exists():
        messages.info(request, "The tasks of this stage were created before; nothing was added.")
    else:
        messages.warning(request, f"There is no active template {name}. Add one in the admin.")
    return redirect(workflow)
