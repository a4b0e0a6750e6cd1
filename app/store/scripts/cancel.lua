-- cancel: ask a task to stop. A waiting one is to be ended by the caller; whoever claims it meanwhile does the same.
-- replies {'WAITING', envelope, checkpoint or '', document}   PENDING: write its row, and settle
--       | {'ASKED', document}     PROCESSING: its worker is told at the next beat
--       | {'ENDED', document}     it has ended
--       | {'MISSING'}             not here: the archive may know
local status, envelope, checkpoint, cancel, ended_as = get('status', 'envelope', 'checkpoint', 'cancel', 'ended_as')
if not status or status == 'aborted' or status == 'forgotten' or (status == 'created' and not ended_as) then
  return {'MISSING'}
end
if status ~= 'PENDING' and status ~= 'PROCESSING' then
  return {'ENDED', document()}
end
local values = cancel == '1' and document() or change(false, 'cancel', '1')
if status == 'PENDING' then
  return {'WAITING', envelope or '', checkpoint or '', values}
end
return {'ASKED', values}
