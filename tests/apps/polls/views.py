from django.db.models import F
from django.http import FileResponse, HttpResponse, HttpResponseRedirect, StreamingHttpResponse
from django.shortcuts import get_object_or_404, render
from django.urls import reverse
from django.utils import timezone
from django.views import generic

from .models import Choice, Document, Question


class IndexView(generic.ListView):
    template_name = "polls/index.html"
    context_object_name = "latest_question_list"

    def get_queryset(self):
        return Question.objects.filter(pub_date__lte=timezone.now()).order_by("-pub_date")[:5]


class DetailView(generic.DetailView):
    model = Question
    template_name = "polls/detail.html"


class ResultsView(generic.DetailView):
    model = Question
    template_name = "polls/results.html"


def vote(request, question_id):
    question = get_object_or_404(Question, pk=question_id)
    try:
        choice = question.choice_set.get(pk=request.POST["choice"])
    except (KeyError, Choice.DoesNotExist):
        return render(
            request, "polls/detail.html", {"question": question, "error_message": "You didn't select a choice."}
        )
    choice.votes = F("votes") + 1
    choice.save()
    request.session["voted"] = request.session.get("voted", 0) + 1
    return HttpResponseRedirect(reverse("polls:results", args=(question.id,)))


def upload(request):
    if request.method == "POST":
        made = Document.objects.create(file=request.FILES["file"])
        return HttpResponseRedirect(reverse("polls:document", args=(made.pk,)))
    return render(request, "polls/upload.html")


def document(request, pk):
    return FileResponse(get_object_or_404(Document, pk=pk).file.open("rb"), as_attachment=True)


def stream(request):
    return StreamingHttpResponse((f"line {i}\n" for i in range(5)), content_type="text/plain")


def error(request):
    if "ok" in request.GET:
        return HttpResponse("ok")
    raise RuntimeError("raised in a view")
